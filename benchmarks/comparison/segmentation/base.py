# Data, schedule and runtime of the comparison's segmentation task: MNIST digits on photographs.
# python benchmarks/comparison/make_data.py makes the data. Training and test share no digit
# and no photograph. The validation reads the test images: it comes once, after the last epoch.
_base_ = [
    'mmseg::_base_/models/fpn_r50.py',
    'mmseg::_base_/default_runtime.py',
    '../../../configs/_base_/distillation_run.py',
]

max_epochs = 16
data_root = 'data/comparison/scenes/'
classes = (
    *('background', 'zero', 'one', 'two', 'three', 'four'),
    *('five', 'six', 'seven', 'eight', 'nine'),
)
norm_cfg = dict(type='BN', requires_grad=True)

model = dict(
    data_preprocessor=dict(size=(96, 96)),
    pretrained=None,
    backbone=dict(depth=18, norm_cfg=norm_cfg),
    neck=dict(norm_cfg=norm_cfg),
    # Seven pixels of eight are background.
    decode_head=dict(
        num_classes=11, norm_cfg=norm_cfg, loss_decode=dict(class_weight=[0.2] + 10 * [1.0])
    ),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        metainfo=dict(classes=classes),
        seg_map_suffix='.png',
        img_suffix='.png',
        data_prefix=dict(img_path='images/train', seg_map_path='label_maps/train'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            # Nothing for the data's own pictures, but those of --smoke have several sizes.
            dict(type='Resize', scale=(96, 96)),
            dict(type='PackSegInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        metainfo=dict(classes=classes),
        seg_map_suffix='.png',
        img_suffix='.png',
        data_prefix=dict(img_path='images/test', seg_map_path='label_maps/test'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        eta_min=2e-5,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=25),
    timer=dict(type='IterTimerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    checkpoint=dict(type='mmdiffkd.SafeCheckpointHook', interval=max_epochs, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=True)
