# Data, schedule and runtime of ImageNet strategy B1: 8 GPUs x 32 images, 100 epochs.
#
# Settings   [ref] all, and mmpretrain's own: SGD at 0.1, momentum 0.9, weight decay 1e-4, a tenth
#            every 30 epochs, random resized crop and flip.
#            [ours] the last three checkpoints and the best are kept.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    'mmpretrain::_base_/default_runtime.py',
    './distillation_run.py',
]

default_hooks = dict(
    checkpoint=dict(
        type='mmdiffkd.SafeCheckpointHook', interval=1, max_keep_ckpts=3, save_best='accuracy/top1'
    )
)
randomness = dict(diff_rank_seed=True)
