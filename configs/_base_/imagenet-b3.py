# Data, schedule and runtime of ImageNet strategy B3: 16 GPUs x 64 images, 300 epochs.
#
# Mixup 0.8, cutmix 1.0 and drop path 0.2 belong to the strategy too, but sit in the student.
#
# Settings   [ref] optimizer, learning rate, weight decay, cosine to 5e-6, warm-up, RandAugment
#            m9-mstd0.5, random erasing 0.25, gradient clipping.
#            [ours] The rest is mmpretrain's for Swin transformers: RandAugment picks from the
#            transforms that grow stronger with the magnitude (m9-mstd0.5-inc1 in timm's words),
#            bicubic resizing, noise in erased areas, no weight decay on biases, norms, other
#            vectors and position biases; the cosine goes by epoch.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py',
    'mmpretrain::_base_/default_runtime.py',
    './distillation_run.py',
]

max_epochs = 300
warmup_epochs = 20
learning_rate = 1e-3

train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(
    optimizer=dict(lr=learning_rate, weight_decay=0.04), clip_grad=dict(max_norm=5.0)
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=5e-7 / learning_rate,
        by_epoch=True,
        begin=0,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=5e-6,
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
    ),
]

default_hooks = dict(
    checkpoint=dict(
        type='mmdiffkd.SafeCheckpointHook', interval=1, max_keep_ckpts=3, save_best='accuracy/top1'
    )
)
randomness = dict(diff_rank_seed=True)
