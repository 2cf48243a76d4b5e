# The student of the comparison's classification task: ResNet-8 for CIFAR of 4 to 16 channels.
#
# Prepare    python benchmarks/comparison/make_data.py
# Command    python tools/train.py benchmarks/comparison/classification/student.py
# Batch      1 CPU, 12 epochs of 8000 images, 64 at a time
# Measured   see docs/comparison.md
_base_ = './base.py'

model = dict(
    backbone=dict(_delete_=True, type='mmdiffkd.CIFARResNet', depth=8, channels=(4, 4, 8, 16)),
    head=dict(in_channels=16),
)
