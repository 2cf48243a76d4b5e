_base_ = './base.py'

model = dict(
    backbone=dict(_delete_=True, type='mmdiffkd.CIFARResNet', depth=14, channels=(16, 16, 32, 64)),
    head=dict(in_channels=64),
)
randomness = dict(seed=0)
