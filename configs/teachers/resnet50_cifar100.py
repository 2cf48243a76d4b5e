# ResNet-50 on CIFAR-100: a teacher.
#
# Command    python tools/train.py configs/teachers/resnet50_cifar100.py
# Leaves     work_dirs/resnet50_cifar100/epoch_240.pth for its students' configs
# Batch      1 GPU x 64 images, 240 epochs
# Published  79.34 top-1, in earlier work of the paper's first author
# Measured   not measured
#
# Settings   [dist] that earlier work: network, strategy.
#            [ours] batch norms start at one, as in the literature's network; mmpretrain starts the
#            last one of each block at zero.
_base_ = '../_base_/cifar100.py'

model = dict(
    backbone=dict(type='ResNet_CIFAR', depth=50, zero_init_residual=False),
    head=dict(in_channels=2048),
)
