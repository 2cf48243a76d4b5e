# A classifier to be completed, data, schedule and runtime for CIFAR-100: one GPU x 64 images,
# 240 epochs. The data are in data/cifar100, and downloaded if there are none.
#
# Settings   [dist] batch, epochs, SGD at 0.05 with momentum 0.9 and weight decay 5e-4, a tenth at
#            epochs 150, 180 and 210, crop and flip, mean and standard deviation.
#            [ours] a checkpoint every 10 epochs, of which the last two and the best are kept.
_base_ = [
    'mmpretrain::_base_/datasets/cifar100_bs16.py',
    'mmpretrain::_base_/default_runtime.py',
    './distillation_run.py',
]

# Configs add the backbone and the width of its last map, head.in_channels.
model = dict(
    type='ImageClassifier',
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
)

# CIFAR's pictures are stored as RGB, which is why the base has to_rgb=False.
data_preprocessor = dict(
    mean=[255 * x for x in (0.5071, 0.4867, 0.4408)],
    std=[255 * x for x in (0.2675, 0.2565, 0.2761)],
)
# Takes any files of CIFAR-100's format, a miniature or a part of it too.
dataset = dict(type='mmdiffkd.datasets.cifar100.UnverifiedCIFAR100')
train_dataloader = dict(batch_size=64, dataset=dataset)
val_dataloader = dict(batch_size=64, dataset=dataset)
test_dataloader = dict(batch_size=64, dataset=dataset)
del dataset
val_evaluator = dict(topk=(1, 5))
test_evaluator = dict(topk=(1, 5))

train_cfg = dict(by_epoch=True, max_epochs=240, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[150, 180, 210], gamma=0.1)
auto_scale_lr = dict(base_batch_size=64)

default_hooks = dict(
    checkpoint=dict(
        type='mmdiffkd.SafeCheckpointHook', interval=10, max_keep_ckpts=2, save_best='accuracy/top1'
    )
)
randomness = dict(diff_rank_seed=True)
