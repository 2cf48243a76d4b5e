# ResNet-32x4 -> ResNet-8x4 on CIFAR-100: DKD on the logits.
#
# Teacher    resnet32x4_cifar100.py, 79.42 top-1 in the literature; train it first:
#            python tools/train.py configs/teachers/resnet32x4_cifar100.py
# Student    ResNet-8x4, 72.50 top-1 alone in the literature
# Command    python tools/train.py configs/dkd/resnet32x4_resnet8x4_cifar100.py
# Batch      1 GPU x 64 images, 240 epochs
# Published  76.32 top-1, the readme of megvii-research/mdistiller
# Measured   not measured
#
# Settings   [pub] the authors' config (mdistiller): alpha, beta, temperature, a weight that grows
#            during the first 20 epochs; schedule as in the DiffKD config.
_base_ = '../diffkd/resnet32x4_resnet8x4_cifar100.py'

model = dict(
    pairs=dict(
        _delete_=True,
        logits=dict(
            student='head.fc',
            teacher='head.fc',
            loss=dict(type='DKDLoss', alpha=1.0, beta=8.0, tau=4.0),
        ),
    ),
)

custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmdiffkd.DistillationScheduleHook', warmup=dict(length=20)),
]
