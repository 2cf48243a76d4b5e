# The student of the comparison's segmentation task: the teacher at a third of its width.
#
# Prepare    python benchmarks/comparison/make_data.py
# Command    python tools/train.py benchmarks/comparison/segmentation/student.py
# Batch      1 CPU, 16 epochs of 1200 images, 16 at a time
# Measured   see docs/comparison.md
_base_ = './base.py'

model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    decode_head=dict(in_channels=64, channels=32),
    auxiliary_head=dict(in_channels=32, channels=16),
)
