# FCOS R101 -> FCOS R50: DiffKD on the FPN maps; neck and head start from the teacher's weights.
#
# Teacher    mmdet fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco, 40.8 AP
# Student    mmdet fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco, 38.5 AP alone, here with
#            normalised boxes, centre sampling and the GIoU loss
# Command    bash tools/dist_train.sh configs/diffkd/fcos_r101_r50_coco.py 8
# Batch      8 GPUs x 2 images, 24 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [det] detection configs that two of the paper's authors published: pair, weight,
#            learning rate, warm-up, gradient clipping, the student's three changes, inheriting.
_base_ = [
    'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py',
    '../_base_/distillation_run.py',
]

student = _base_.model
student.bbox_head.update(
    norm_on_bbox=True,
    center_sampling=True,
    loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
)

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=student,
    teacher=dict(
        config='mmdet::fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco.py',
        checkpoint='zoo',
    ),
    init_from_teacher=['neck', 'bbox_head'],
    pairs=dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            head=dict(type='DiffKDHead'),
            loss=dict(type='MSELoss', loss_weight=5.0),
        ),
    ),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=1.0 / 3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[16, 22], gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=35, norm_type=2))

# Nobody reads it; what counts is model.student.
del student

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
