# The quickstart's teacher: RetinaNet on a ResNet-18 of half the usual width, from scratch.
#
# Command    bash tools/quickstart.sh
# Batch      1 CPU x 16 images, 20 epochs
# Measured   77.0 ± 0.4 AP, 96.0 ± 0.6 AP50 on 150 miniature pictures (3 seeds, one CPU thread)
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', './_base_/mini-coco.py']

model = dict(
    backbone=dict(depth=18, base_channels=32, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(
        in_channels=[32, 64, 128, 256], out_channels=64, norm_cfg=dict(type='BN'), num_outs=3
    ),
    bbox_head=dict(
        num_classes=5,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        norm_cfg=dict(type='GN', num_groups=8),
        anchor_generator=dict(octave_base_scale=3, strides=[8, 16, 32]),
    ),
    test_cfg=dict(nms_pre=300),
)
