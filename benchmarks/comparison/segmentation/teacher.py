# The teacher of the comparison's segmentation task: Semantic FPN on a ResNet-18 of 24 to 192
# channels.
#
# Prepare    python benchmarks/comparison/make_data.py
# Command    python tools/train.py benchmarks/comparison/segmentation/teacher.py
# Batch      1 CPU, 16 epochs of 1200 images, 16 at a time
# Measured   see docs/comparison.md
_base_ = './base.py'

model = dict(
    backbone=dict(base_channels=24, stem_channels=24),
    neck=dict(in_channels=[24, 48, 96, 192], out_channels=64),
    decode_head=dict(in_channels=4 * [64], channels=64),
)
randomness = dict(seed=0)
