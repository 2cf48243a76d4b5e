# RTMDet-l -> RTMDet-tiny: DiffKD on the neck, until mosaic and mixup end.
#
# Teacher    mmdet rtmdet_l_8xb32-300e_coco, 51.3 AP
# Student    mmdet rtmdet_tiny_8xb32-300e_coco, 40.9 AP alone
# Command    bash tools/dist_train.sh configs/diffkd/rtmdet-l_rtmdet-tiny_coco.py 8
# Batch      8 GPUs x 32 images, 300 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [ours] weight and gradient clipping of the other detectors [det]; no distillation after
#            the end of mosaic and mixup, as in mmyolo's distillation of RTMDet.
_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(config='mmdet::rtmdet/rtmdet_l_8xb32-300e_coco.py', checkpoint='zoo'),
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
        end=_base_.max_epochs - _base_.stage2_num_epochs,
    ),
]

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
