# GFL R101 -> GFL R50: LD, distillation of the box distributions.
#
# Teacher    mmdet gfl_r101_fpn_ms-2x_coco, 44.7 AP
# Student    mmdet gfl_r50_fpn_1x_coco, 40.2 AP alone
# Command    bash tools/dist_train.sh configs/ld/gfl_r101_r50_coco.py 8
# Batch      8 GPUs x 2 images, 12 epochs
# Published  41.0 AP, mmdet's model zoo (ld_r50-gflv1-r101_fpn_1x_coco)
# Measured   not measured
#
# Settings   [pub] mmdet's config: temperature 10, weight 0.25, learning rate and schedule (1x).
#            [ours] All places count, weighted by the teacher's score, and not only those that a
#            box is assigned to, see LDHead.
_base_ = ['mmdet::gfl/gfl_r50_fpn_1x_coco.py', '../_base_/distillation_run.py']

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(config='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py', checkpoint='zoo'),
    pairs=dict(
        boxes=dict(
            student='bbox_head[1]',
            teacher='neck',
            head=dict(type='LDHead', tau=10.0, loss_weight=0.25),
        ),
    ),
)

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
