# Mask R-CNN Swin-S -> Mask R-CNN R50: DiffKD on the FPN maps.
#
# Teacher    mmdet mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco, 48.2 box AP, 43.2 mask AP
# Student    mmdet mask-rcnn_r50_fpn_2x_coco, 39.2 box AP, 35.4 mask AP alone
# Command    bash tools/dist_train.sh configs/diffkd/mask-rcnn_swin-s_r50_coco.py 8
# Batch      8 GPUs x 2 images, 24 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [ours] weight and gradient clipping of Faster R-CNN [det]; mmdet's own learning rate
#            and schedule (2x).
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_2x_coco.py', '../_base_/distillation_run.py']

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(
        config='mmdet::swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py', checkpoint='zoo'
    ),
    pairs=dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            head=dict(type='DiffKDHead'),
            loss=dict(type='MSELoss', loss_weight=5.0),
        ),
    ),
)

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
