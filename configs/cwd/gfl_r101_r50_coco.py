# GFL R101 -> GFL R50: CWD on the class scores.
#
# Teacher    mmdet gfl_r101_fpn_ms-2x_coco, 44.7 AP
# Student    mmdet gfl_r50_fpn_1x_coco, 40.2 AP alone
# Command    bash tools/dist_train.sh configs/cwd/gfl_r101_r50_coco.py 8
# Batch      8 GPUs x 2 images, 12 epochs
# Published  41.9 AP, the readme of CWD in MMRazor
# Measured   not measured
#
# Settings   [pub] MMRazor's config: the scores of all levels, temperature 1, weight 5, no head;
#            mmdet's own learning rate and schedule (1x).
_base_ = ['mmdet::gfl/gfl_r50_fpn_1x_coco.py', '../_base_/distillation_run.py']

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(config='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py', checkpoint='zoo'),
    pairs=dict(
        scores=dict(
            student='bbox_head.gfl_cls',
            teacher='bbox_head.gfl_cls',
            loss=dict(type='CWDLoss', tau=1.0, loss_weight=5.0),
        ),
    ),
)

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
