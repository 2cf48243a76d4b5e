# RepPoints X101 -> RepPoints R50: PKD on the FPN maps.
#
# Teacher    mmdet reppoints-moment_x101-dconv-c3-c5_fpn-gn_head-gn_2x_coco, 44.2 AP
# Student    mmdet reppoints-moment_r50_fpn-gn_head-gn_2x_coco, 38.6 AP alone
# Command    bash tools/dist_train.sh configs/pkd/reppoints_x101_r50_coco.py 8
# Batch      8 GPUs x 2 images, 24 epochs
# Published  42.3 AP, the readme of PKD in MMRazor
# Measured   not measured
#
# Settings   [pub] the authors' configs in MMRazor: Pearson correlation of the first four FPN maps,
#            weight 10, no head; mmdet's own learning rate and schedule (2x).
_base_ = [
    'mmdet::reppoints/reppoints-moment_r50_fpn-gn_head-gn_2x_coco.py',
    '../_base_/distillation_run.py',
]

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(
        config='mmdet::reppoints/reppoints-moment_x101-dconv-c3-c5_fpn-gn_head-gn_2x_coco.py',
        checkpoint='zoo',
    ),
    pairs=dict(
        fpn=dict(
            student='neck[:4]',
            teacher='neck[:4]',
            loss=dict(type='PKDLoss', loss_weight=10.0),
        ),
    ),
)

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
