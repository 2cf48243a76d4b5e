_base_ = './base.py'

model = dict(
    backbone=dict(_delete_=True, type='mmdiffkd.CIFARResNet', depth=8, channels=(4, 4, 8, 16)),
    head=dict(in_channels=16),
)
