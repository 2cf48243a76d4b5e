# WRN-40-2 on CIFAR-100: a teacher.
#
# Command    python tools/train.py configs/teachers/wrn40-2_cifar100.py
# Leaves     work_dirs/wrn40-2_cifar100/epoch_240.pth for its students' configs
# Batch      1 GPU x 64 images, 240 epochs
# Published  75.61 top-1, in earlier work of the paper's first author
# Measured   not measured
#
# Settings   [dist] that earlier work: network, strategy.
_base_ = '../_base_/cifar100.py'

model = dict(
    backbone=dict(type='mmdiffkd.CIFARWideResNet', depth=40, widen_factor=2),
    head=dict(in_channels=128),
)
