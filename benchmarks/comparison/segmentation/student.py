_base_ = './base.py'

model = dict(
    backbone=dict(base_channels=4, stem_channels=4),
    decode_head=dict(in_channels=32, channels=16),
    auxiliary_head=dict(in_channels=16, channels=8),
)
