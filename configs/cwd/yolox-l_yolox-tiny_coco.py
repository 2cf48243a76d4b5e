# YOLOX-l -> YOLOX-tiny: CWD on the neck, until mosaic and mixup end.
#
# Teacher    mmdet yolox_l_8xb8-300e_coco, 49.4 AP
#            (mmdet publishes no weights of YOLOX-m)
# Student    mmdet yolox_tiny_8xb8-300e_coco, 32.0 AP alone
# Command    bash tools/dist_train.sh configs/cwd/yolox-l_yolox-tiny_coco.py 8
# Batch      8 GPUs x 8 images, 300 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [ours] those of mmyolo's config for RTMDet-s -> RTMDet-tiny: the last convolutions of
#            the neck, before their batch norm; channels brought to mean 0 and variance 1,
#            temperature 1, weight 1; no distillation after the end of mosaic and mixup.
_base_ = 'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py'

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(config='mmdet::yolox/yolox_l_8xb8-300e_coco.py', checkpoint='zoo'),
    pairs={
        f'fpn{level}': dict(
            student=f'neck.out_convs.{level}.conv',
            teacher=f'neck.out_convs.{level}.conv',
            head=dict(type='AlignHead'),
            loss=dict(type='CWDLoss', tau=1.0, loss_weight=1.0, normalize=True),
        )
        for level in range(3)
    },
)

custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='mmdiffkd.DistillationScheduleHook',
        # YOLOXModeSwitchHook changes the data one epoch before the last ones.
        end=_base_.max_epochs - _base_.num_last_epochs - 1,
    ),
]

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
