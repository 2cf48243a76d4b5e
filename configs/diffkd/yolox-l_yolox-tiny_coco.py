# YOLOX-l -> YOLOX-tiny: DiffKD on the neck, until mosaic and mixup end.
#
# Teacher    mmdet yolox_l_8xb8-300e_coco, 49.4 AP
#            (mmdet publishes no weights of YOLOX-m)
# Student    mmdet yolox_tiny_8xb8-300e_coco, 32.0 AP alone
# Command    bash tools/dist_train.sh configs/diffkd/yolox-l_yolox-tiny_coco.py 8
# Batch      8 GPUs x 8 images, 300 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [ours] weight and gradient clipping of the other detectors [det]; no distillation after
#            the end of mosaic and mixup, as in mmyolo's distillation of RTMDet.
_base_ = 'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py'

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(config='mmdet::yolox/yolox_l_8xb8-300e_coco.py', checkpoint='zoo'),
    pairs=dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            head=dict(type='DiffKDHead'),
            loss=dict(type='MSELoss', loss_weight=5.0),
        ),
    ),
)

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
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
