# RetinaNet R101 -> RetinaNet R50: CrossKD, the student's head features in the teacher's head.
#
# Teacher    mmdet retinanet_r101_fpn_2x_coco, 38.9 AP
# Student    mmdet retinanet_r50_fpn_2x_coco, 37.4 AP alone
# Command    bash tools/dist_train.sh configs/crosskd/retinanet_r101_r50_coco.py 8
# Batch      8 GPUs x 2 images, 24 epochs
# Published  39.7 AP, the readme of jbwang1997/CrossKD
# Measured   not measured
#
# Settings   [pub] the authors' config: both branches from the third of four convolutions on,
#            quality focal loss for scores and generalised overlap for boxes, weights 1; mmdet's
#            own learning rate and schedule (2x).
#            [ours] What a sum is divided by; the authors' code takes numbers of all levels, see
#            CrossKDHead.
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_2x_coco.py', '../_base_/distillation_run.py']

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(config='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py', checkpoint='zoo'),
    pairs=dict(
        cls=dict(
            student='bbox_head.cls_convs.2.activate:input',
            teacher='neck',
            head=dict(type='CrossKDHead', branch='cls', index=3),
        ),
        reg=dict(
            student='bbox_head.reg_convs.2.activate:input',
            teacher='neck',
            head=dict(type='CrossKDHead', branch='reg', index=3, loss_weight=1.0),
        ),
    ),
)

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
