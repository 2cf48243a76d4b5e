# The digits experiment's teacher: ResNet-14 for CIFAR, 175,258 parameters.
#
# Prepare    python benchmarks/experiments/digits.py --prepare-only
# Command    python tools/train.py configs/digits/teacher_digits.py
# Batch      1 CPU x 50 images, 120 epochs of 300 images
# Measured   97.76 ± 0.36 top-1 on 1197 test images, mean ± standard deviation of seeds 0 to 4
_base_ = './_base_/digits.py'

model = dict(
    backbone=dict(type='mmdiffkd.CIFARResNet', depth=14, channels=(16, 16, 32, 64)),
    head=dict(in_channels=64),
)
