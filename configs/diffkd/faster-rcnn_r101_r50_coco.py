# Faster R-CNN R101 -> Faster R-CNN R50: DiffKD on the FPN maps.
#
# Teacher    mmdet faster-rcnn_r101_fpn_2x_coco, 39.8 AP
# Student    mmdet faster-rcnn_r50_fpn_2x_coco, 38.4 AP alone
# Command    bash tools/dist_train.sh configs/diffkd/faster-rcnn_r101_r50_coco.py 8
# Batch      8 GPUs x 2 images, 24 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [det] detection configs that two of the paper's authors published: pair, weight,
#            learning rate, gradient clipping.
_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py', '../_base_/distillation_run.py']

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py', checkpoint='zoo'),
    pairs=dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            head=dict(type='DiffKDHead'),
            loss=dict(type='MSELoss', loss_weight=5.0),
        ),
    ),
)

optim_wrapper = dict(optimizer=dict(lr=0.02), clip_grad=dict(max_norm=35, norm_type=2))

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
