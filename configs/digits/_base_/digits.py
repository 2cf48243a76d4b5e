# A classifier to be completed, data, schedule and runtime of the digits experiment: one CPU, 120
# epochs of 6 x 50 images.
#
# Data       scikit-learn's handwritten digits, 8x8 pixels, enlarged to 16x16, three equal channels.
#            python benchmarks/experiments/digits.py --prepare-only writes them to data/digits: 300
#            images for training, 300 for validation and 1197 for testing, as many of each digit in
#            the first two. Training and validation see no test image; tools/test.py does.
_base_ = ['mmpretrain::_base_/default_runtime.py', '../../_base_/distillation_run.py']

max_epochs = 120
warmup_epochs = 5
learning_rate = 0.1

# Configs add the backbone and the width of its last map, head.in_channels.
model = dict(
    type='ImageClassifier',
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1,),
    ),
)
data_preprocessor = dict(num_classes=10, mean=[78.0] * 3, std=[90.0] * 3, to_rgb=False)

dataset_type = 'CustomDataset'
data_root = 'data/digits/'
classes = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
resize = dict(type='Resize', scale=(16, 16))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    resize,
    dict(type='RandomCrop', crop_size=16, padding=1),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), resize, dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=50,
    num_workers=0,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix='train',
        metainfo=dict(classes=classes),
        pipeline=train_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=300,
    num_workers=0,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix='val',
        metainfo=dict(classes=classes),
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], data_prefix='test'))
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=learning_rate, momentum=0.9, weight_decay=5e-4),
    clip_grad=dict(max_norm=35.0),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        by_epoch=True,
        begin=0,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        convert_to_iter_based=True,
    ),
]

default_hooks = dict(
    logger=dict(interval=6),
    checkpoint=dict(type='mmdiffkd.SafeCheckpointHook', interval=max_epochs, max_keep_ckpts=1),
)
