# WRN-40-2 -> WRN-40-1 on CIFAR-100: DiffKD on the last feature map and the logits.
#
# Teacher    wrn40-2_cifar100.py, 75.61 top-1 in the literature; train it first:
#            python tools/train.py configs/teachers/wrn40-2_cifar100.py
# Student    WRN-40-1, 71.98 top-1 alone in the literature
# Command    python tools/train.py configs/diffkd/wrn40-2_wrn40-1_cifar100.py
# Batch      1 GPU x 64 images, 240 epochs
# Published  74.09 top-1, quoted in issue 13 of hunto/DiffKD, where a user reproduced 72.79
# Measured   not measured
#
# Settings   [dist] earlier work of the paper's first author: networks, strategy.
#            [ours] pairs: those of ImageNet, their losses and weights of 1; no autoencoder, as the
#            teacher's map is narrow (D is its width).
_base_ = ['../_base_/cifar100.py', '../_base_/classifier-pairs.py']

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=dict(
        _base_.model,
        backbone=dict(type='mmdiffkd.CIFARWideResNet', depth=40, widen_factor=1),
        head=dict(_base_.model.head, in_channels=64),
    ),
    teacher=dict(
        config='{{ fileDirname }}/../teachers/wrn40-2_cifar100.py',
        checkpoint='work_dirs/wrn40-2_cifar100/epoch_240.pth',
    ),
    pairs=_base_.pairs,
)
