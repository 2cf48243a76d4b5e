# DINO R50 -> DINO R18: DiffKD on the maps of the neck.
#
# Teacher    mmdet dino-4scale_r50_8xb2-12e_coco, 49.0 AP
# Student    DINO R18, AP alone not known (mmdet does not train it)
# Command    bash tools/dist_train.sh configs/diffkd/dino_r50_r18_coco.py 8
# Batch      8 GPUs x 2 images, 12 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [ours] weight 5, as for the pyramids of other detectors [det]; mmdet's own learning
#            rate, schedule and gradient clipping.
_base_ = ['mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', '../_base_/distillation_run.py']

# mmdet has no config of this student.
student = _base_.model
student.backbone.update(
    depth=18, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')
)
student.neck.update(in_channels=[128, 256, 512])

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=student,
    teacher=dict(config='mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', checkpoint='zoo'),
    pairs=dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            head=dict(type='DiffKDHead'),
            loss=dict(type='MSELoss', loss_weight=5.0),
        ),
    ),
)

# Nobody reads it; what counts is model.student.
del student

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
