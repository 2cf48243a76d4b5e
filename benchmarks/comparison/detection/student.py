# The student of the comparison's detection task: the teacher at a third to two thirds of its width.
#
# Prepare    python benchmarks/comparison/make_data.py
# Command    python tools/train.py benchmarks/comparison/detection/student.py
# Batch      1 CPU, 16 epochs of 1200 images, 16 at a time
# Measured   see docs/comparison.md
_base_ = './base.py'

model = dict(
    backbone=dict(base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32),
)
