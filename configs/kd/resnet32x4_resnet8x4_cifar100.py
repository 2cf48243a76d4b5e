# ResNet-32x4 -> ResNet-8x4 on CIFAR-100: the logits (Hinton et al., 2015).
#
# Teacher    resnet32x4_cifar100.py, 79.42 top-1 in the literature; train it first:
#            python tools/train.py configs/teachers/resnet32x4_cifar100.py
# Student    ResNet-8x4, 72.50 top-1 alone in the literature
# Command    python tools/train.py configs/kd/resnet32x4_resnet8x4_cifar100.py
# Batch      1 GPU x 64 images, 240 epochs
# Published  73.33 top-1, the readme of HobbitLong/RepDistiller
# Measured   not measured
#
# Settings   [pub] RepDistiller: temperature 4, weight 0.1 for the task's loss and 0.9 for the
#            distance; schedule as in the DiffKD config.
_base_ = '../diffkd/resnet32x4_resnet8x4_cifar100.py'

model = dict(
    student=dict(head=dict(loss=dict(loss_weight=0.1))),
    pairs=dict(
        _delete_=True,
        logits=dict(
            student='head.fc',
            teacher='head.fc',
            loss=dict(type='KLDivLoss', tau=4.0, loss_weight=0.9),
        ),
    ),
)
