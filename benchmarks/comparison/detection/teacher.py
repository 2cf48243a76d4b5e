# The teacher of the comparison's detection task: RetinaNet on a ResNet-18 of 24 to 192 channels.
#
# Prepare    python benchmarks/comparison/make_data.py
# Command    python tools/train.py benchmarks/comparison/detection/teacher.py
# Batch      1 CPU, 16 epochs of 1200 images, 16 at a time
# Measured   see docs/comparison.md
_base_ = './base.py'

model = dict(
    backbone=dict(base_channels=24),
    neck=dict(in_channels=[24, 48, 96, 192], out_channels=48),
    bbox_head=dict(in_channels=48, feat_channels=48),
)
randomness = dict(seed=0)
