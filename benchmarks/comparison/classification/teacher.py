# The teacher of the comparison's classification task: ResNet-14 for CIFAR of 16 to 64 channels.
#
# Prepare    python benchmarks/comparison/make_data.py
# Command    python tools/train.py benchmarks/comparison/classification/teacher.py
# Batch      1 CPU, 12 epochs of 8000 images, 64 at a time
# Measured   see docs/comparison.md
_base_ = './base.py'

model = dict(
    backbone=dict(_delete_=True, type='mmdiffkd.CIFARResNet', depth=14, channels=(16, 16, 32, 64)),
    head=dict(in_channels=64),
)
randomness = dict(seed=0)
