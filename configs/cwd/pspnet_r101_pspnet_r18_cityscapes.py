# PSPNet R101 -> PSPNet R18 on Cityscapes: CWD on the scores of the classes.
#
# Teacher    mmseg pspnet_r101-d8_4xb2-80k_cityscapes-512x1024, 79.76 mIoU
# Student    mmseg pspnet_r18-d8_4xb2-80k_cityscapes-512x1024, 74.87 mIoU alone
# Command    bash tools/dist_train.sh configs/cwd/pspnet_r101_pspnet_r18_cityscapes.py 4
# Batch      4 GPUs x 2 images, 80,000 iterations
# Published  75.54 mIoU, the readme of CWD in MMRazor
# Measured   not measured
#
# Settings   [pub] MMRazor's config: temperature 1, weight 5, no head; mmseg's own data and
#            schedule.
_base_ = [
    'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    '../_base_/distillation_run.py',
]

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(
        config='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py',
        checkpoint='zoo',
    ),
    pairs=dict(
        logits=dict(
            student='decode_head.conv_seg',
            teacher='decode_head.conv_seg',
            loss=dict(type='CWDLoss', tau=1.0, loss_weight=5.0),
        ),
    ),
)

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
