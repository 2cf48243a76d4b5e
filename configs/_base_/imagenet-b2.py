# Data, schedule and runtime of ImageNet strategy B2: 8 GPUs x 96 images, 450 epochs.
#
# Dropout 0.2 belongs to the strategy too, but sits in the student.
#
# Settings   [ref] optimizer, learning rate and its decay, warm-up, RandAugment m9-mstd0.5, random
#            erasing 0.2, EMA 0.9999.
#            [ours] RandAugment picks from the transforms that grow stronger with the magnitude
#            (m9-mstd0.5-inc1 in timm's words), the only ones that mmpretrain has ready. Bicubic
#            resizing, and noise in erased areas, as in mmpretrain's other configs with these
#            augmentations. No weight decay on biases, norms and other vectors, as in timm. The
#            decay every 2.4 epochs comes at the next whole epoch and counts from the first one,
#            warm-up included, as in timm. EMA of batch norm statistics as well; the EMA weights
#            are evaluated, and are what a checkpoint holds as the student.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32_pil_bicubic.py',
    'mmpretrain::_base_/default_runtime.py',
    './distillation_run.py',
]

max_epochs = 450
warmup_epochs = 3
learning_rate = 0.048

# Images are loaded as BGR.
bgr_mean = [103.53, 116.28, 123.675]
bgr_std = [57.375, 57.12, 58.395]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
    ),
    dict(
        type='RandomErasing',
        erase_prob=0.2,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=bgr_mean,
        fill_std=bgr_std,
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=96, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=96)
test_dataloader = dict(batch_size=96)

train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(
        type='timm.optim.RMSpropTF',  # as TensorFlow has it, with epsilon inside the square root
        lr=learning_rate,
        alpha=0.9,
        momentum=0.9,
        eps=1e-3,
        weight_decay=1e-5,
    ),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6 / learning_rate,
        by_epoch=True,
        begin=0,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    # StepLR cannot do it: it takes the remainder by its step, which 2.4 epochs have in iterations
    # (or epochs) next to never. These are the epochs in which the k-th 2.4 epochs are over:
    # 3, 5, 8, 10, 12, 15, ..., 449.
    dict(
        type='MultiStepLR',
        by_epoch=True,
        gamma=0.97,
        milestones=[(12 * k + 4) // 5 for k in range(1, max_epochs * 5 // 12 + 1)],
    ),
]
auto_scale_lr = dict(base_batch_size=768)

custom_hooks = [
    *_base_.custom_hooks,
    dict(type='EMAHook', momentum=1e-4, update_buffers=True),
]
default_hooks = dict(
    checkpoint=dict(
        type='mmdiffkd.SafeCheckpointHook', interval=1, max_keep_ckpts=3, save_best='accuracy/top1'
    )
)
randomness = dict(diff_rank_seed=True)
