# RepPoints X101 -> RepPoints R50: DiffKD on the FPN maps, smooth L1 on both sets of points.
#
# Teacher    mmdet reppoints-moment_x101-dconv-c3-c5_fpn-gn_head-gn_2x_coco, 44.2 AP
# Student    mmdet reppoints-moment_r50_fpn-gn_head-gn_2x_coco, 38.6 AP alone
# Command    bash tools/dist_train.sh configs/diffkd/reppoints_x101_r50_coco.py 8
# Batch      8 GPUs x 2 images, 24 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [det] detection configs that two of the paper's authors published: pairs, weights,
#            beta, learning rate, gradient clipping.
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
            student='neck',
            teacher='neck',
            head=dict(type='DiffKDHead'),
            loss=dict(type='MSELoss', loss_weight=15.0),
        ),
        points_init=dict(
            student='bbox_head.reppoints_pts_init_out',
            teacher='bbox_head.reppoints_pts_init_out',
            loss=dict(type='SmoothL1Loss', beta=0.11, loss_weight=0.1),
        ),
        points_refine=dict(
            student='bbox_head.reppoints_pts_refine_out',
            teacher='bbox_head.reppoints_pts_refine_out',
            loss=dict(type='SmoothL1Loss', beta=0.11, loss_weight=0.2),
        ),
    ),
)

optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=35, norm_type=2))

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
