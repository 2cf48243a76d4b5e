# Conditional DETR R50 -> Conditional DETR R18: DiffKD on the tokens of the encoder.
#
# Teacher    mmdet conditional-detr_r50_8xb2-50e_coco, 40.9 AP
# Student    Conditional DETR R18, AP alone not known (mmdet does not train it)
# Command    bash tools/dist_train.sh configs/diffkd/conditional-detr_r50_r18_coco.py 8
# Batch      8 GPUs x 2 images, 50 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [ours] weight 1; mmdet's own learning rate, schedule and gradient clipping. The encoder
#            has one scale, so its tokens are a map; mmdet has no RT-DETR.
_base_ = [
    'mmdet::conditional_detr/conditional-detr_r50_8xb2-50e_coco.py',
    '../_base_/distillation_run.py',
]

# mmdet has no config of this student.
student = _base_.model
student.backbone.update(
    depth=18, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')
)
student.neck.update(in_channels=[512])

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=student,
    teacher=dict(
        config='mmdet::conditional_detr/conditional-detr_r50_8xb2-50e_coco.py', checkpoint='zoo'
    ),
    pairs=dict(
        features=dict(
            student='encoder',
            teacher='encoder',
            head=dict(type='DiffKDHead'),
            loss=dict(type='MSELoss', loss_weight=1.0),
        ),
    ),
)

# Nobody reads it; what counts is model.student.
del student

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
