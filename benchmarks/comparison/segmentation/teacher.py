# The teacher of the comparison's segmentation task: PSPNet on a ResNet-18 of 16 to 128 channels.
#
# Prepare    python benchmarks/comparison/make_data.py
# Command    python tools/train.py benchmarks/comparison/segmentation/teacher.py
# Batch      1 CPU, 16 epochs of 1200 images, 16 at a time
# Measured   see docs/comparison.md
_base_ = './base.py'

model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    decode_head=dict(in_channels=128, channels=64),
    auxiliary_head=dict(in_channels=64, channels=32),
)
randomness = dict(seed=0)
