# The digits experiment's student, alone: ResNet-8 of 4 to 8 channels, 2,718 parameters.
#
# Prepare    python benchmarks/experiments/digits.py --prepare-only
# Command    python tools/train.py configs/digits/student_digits.py
# Batch      1 CPU x 50 images, 120 epochs of 300 images
# Measured   95.02 ± 1.33 top-1 on 1197 test images, mean ± standard deviation of seeds 0 to 4
_base_ = './_base_/digits.py'

model = dict(
    backbone=dict(type='mmdiffkd.CIFARResNet', depth=8, channels=(4, 4, 8, 8)),
    head=dict(in_channels=8),
)
