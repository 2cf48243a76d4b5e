# GFL R101 -> GFL R50: CrossKD, the student's head features in the teacher's head.
#
# Teacher    mmdet gfl_r101_fpn_ms-2x_coco, 44.7 AP
# Student    mmdet gfl_r50_fpn_1x_coco, 40.2 AP alone
# Command    bash tools/dist_train.sh configs/crosskd/gfl_r101_r50_coco.py 8
# Batch      8 GPUs x 2 images, 12 epochs
# Published  43.7 AP, the readme of jbwang1997/CrossKD
# Measured   not measured
#
# Settings   [pub] the authors' code: both branches from the third of four convolutions on, quality
#            focal loss for scores and KL of the box distributions at temperature 1 with weight 4;
#            mmdet's own learning rate and schedule (1x).
#            [ours] What a sum is divided by; the authors' code takes numbers of all levels, see
#            CrossKDHead.
_base_ = ['mmdet::gfl/gfl_r50_fpn_1x_coco.py', '../_base_/distillation_run.py']

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(config='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py', checkpoint='zoo'),
    pairs=dict(
        cls=dict(
            student='bbox_head.cls_convs.2.activate:input',
            teacher='neck',
            head=dict(type='CrossKDHead', branch='cls', index=3),
        ),
        reg=dict(
            student='bbox_head.reg_convs.2.activate:input',
            teacher='neck',
            head=dict(type='CrossKDHead', branch='reg', index=3, loss_weight=4.0),
        ),
    ),
)

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
