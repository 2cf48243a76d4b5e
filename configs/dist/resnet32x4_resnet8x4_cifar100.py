# ResNet-32x4 -> ResNet-8x4 on CIFAR-100: DIST on the logits.
#
# Teacher    resnet32x4_cifar100.py, 79.42 top-1 in the literature; train it first:
#            python tools/train.py configs/teachers/resnet32x4_cifar100.py
# Student    ResNet-8x4, 72.50 top-1 alone in the literature
# Command    python tools/train.py configs/dist/resnet32x4_resnet8x4_cifar100.py
# Batch      1 GPU x 64 images, 240 epochs
# Published  76.31 ± 0.19 top-1, the readme of hunto/DIST_KD
# Measured   not measured
#
# Settings   [pub] the authors' repository (hunto/DIST_KD): weight 2, temperature 4, and the
#            schedule, which is that of the DiffKD config.
_base_ = '../diffkd/resnet32x4_resnet8x4_cifar100.py'

model = dict(
    pairs=dict(
        _delete_=True,
        logits=dict(
            student='head.fc',
            teacher='head.fc',
            loss=dict(type='DISTLoss', beta=1.0, gamma=1.0, tau=4.0, loss_weight=2.0),
        ),
    ),
)
