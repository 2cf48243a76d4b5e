# ResNet-32x4 on CIFAR-100: a teacher.
#
# Command    python tools/train.py configs/teachers/resnet32x4_cifar100.py
# Leaves     work_dirs/resnet32x4_cifar100/epoch_240.pth for its students' configs
# Batch      1 GPU x 64 images, 240 epochs
# Published  79.42 top-1, in earlier work of the paper's first author
# Measured   not measured
#
# Settings   [dist] that earlier work: network, strategy.
_base_ = '../_base_/cifar100.py'

model = dict(
    backbone=dict(type='mmdiffkd.CIFARResNet', depth=32, channels=(32, 64, 128, 256)),
    head=dict(in_channels=256),
)
