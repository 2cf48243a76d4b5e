# RetinaNet X101 -> RetinaNet R50: MGD on the FPN maps.
#
# Teacher    mmdet retinanet_x101-64x4d_fpn_ms-640-800-3x_coco, 41.6 AP
# Student    mmdet retinanet_r50_fpn_2x_coco, 37.4 AP alone
# Command    bash tools/dist_train.sh configs/mgd/retinanet_x101_r50_coco.py 8
# Batch      8 GPUs x 2 images, 24 epochs
# Published  41.0 AP, the readme of yzd-v/MGD
# Measured   not measured
#
# Settings   [pub] the authors' config (yzd-v/MGD): all FPN maps, 65 % of the places hidden, weight
#            2e-5 of the squared error, neck and box head start from the teacher's, gradient
#            clipping; mmdet's own learning rate and schedule (2x).
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
            head=dict(type='MGDHead', mask_ratio=0.65, mask='pixels', alpha=2e-5),
        ),
    ),
    init_from_teacher=['neck', 'bbox_head'],
)

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
