# RetinaNet X101 -> RetinaNet R50: DiffKD on the FPN maps, smooth L1 on the predicted boxes.
#
# Teacher    mmdet retinanet_x101-64x4d_fpn_ms-640-800-3x_coco, 41.6 AP
# Student    mmdet retinanet_r50_fpn_2x_coco, 37.4 AP alone
# Command    bash tools/dist_train.sh configs/diffkd/retinanet_x101_r50_coco.py 8
# Batch      8 GPUs x 2 images, 24 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [det] detection configs that two of the paper's authors published: pairs, weights,
#            learning rate, warm-up, gradient clipping.
#            [ours] The warm-up starts at a tenth of the learning rate (its start is not
#            published).
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_2x_coco.py', '../_base_/distillation_run.py']

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(
        config='mmdet::retinanet/retinanet_x101-64x4d_fpn_ms-640-800-3x_coco.py',
        checkpoint='zoo',
    ),
    pairs=dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            head=dict(type='DiffKDHead'),
            loss=dict(type='MSELoss', loss_weight=2.0),
        ),
        reg=dict(
            student='bbox_head.retina_reg',
            teacher='bbox_head.retina_reg',
            loss=dict(type='SmoothL1Loss', loss_weight=1.0),
        ),
    ),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[16, 22], gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=0.02), clip_grad=dict(max_norm=35, norm_type=2))

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
