# RTMDet-l -> RTMDet-tiny: CWD on the neck, until mosaic and mixup end.
#
# Teacher    mmdet rtmdet_l_8xb32-300e_coco, 51.3 AP
# Student    mmdet rtmdet_tiny_8xb32-300e_coco, 40.9 AP alone
# Command    bash tools/dist_train.sh configs/cwd/rtmdet-l_rtmdet-tiny_coco.py 8
# Batch      8 GPUs x 32 images, 300 epochs
# Published  none for this pair that we have a source for; with RTMDet-s as the teacher 41.8 AP
#            (41.0 alone), the readme of distillation in mmyolo
# Measured   not measured
#
# Settings   [pub] mmyolo's config for RTMDet-s -> RTMDet-tiny: the last convolutions of the neck,
#            before their batch norm; channels brought to mean 0 and variance 1, temperature 1,
#            weight 1; no distillation in the last 20 epochs.
_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(config='mmdet::rtmdet/rtmdet_l_8xb32-300e_coco.py', checkpoint='zoo'),
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
        end=_base_.max_epochs - _base_.stage2_num_epochs,
    ),
]

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
