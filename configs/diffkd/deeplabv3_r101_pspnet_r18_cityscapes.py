# DeepLabV3 R101 -> PSPNet R18 on Cityscapes.
#
# Teacher    mmseg deeplabv3_r101-d8_4xb2-80k_cityscapes-512x1024, 80.20 mIoU
# Student    mmseg pspnet_r18-d8_4xb2-80k_cityscapes-512x1024, 74.87 mIoU alone
# Command    bash tools/dist_train.sh \
#                configs/diffkd/deeplabv3_r101_pspnet_r18_cityscapes.py 4
# Batch      4 GPUs x 2 images, 80,000 iterations
# Published  none for this pair that we have a source for. The paper's results page
#            lists 76.24 test mIoU for Cityscapes without naming the pair.
# Measured   not measured
#
# Settings   [ours] Pairs, heads and weights: the features before the classifier with MSE, the
#            classifier's scores with the KL of each pixel's classes. The paper's segmentation code
#            is not published; data and schedule are mmseg's own.
_base_ = [
    'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    '../_base_/segmentor-pairs.py',
    '../_base_/distillation_run.py',
]

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(
        config='mmseg::deeplabv3/deeplabv3_r101-d8_4xb2-80k_cityscapes-512x1024.py',
        checkpoint='zoo',
    ),
    pairs=_base_.pairs,
)

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
