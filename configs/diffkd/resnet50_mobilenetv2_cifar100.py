# ResNet-50 -> MobileNetV2 on CIFAR-100: DiffKD on the last feature map and the logits.
#
# Teacher    resnet50_cifar100.py, 79.34 top-1 in the literature; train it first:
#            python tools/train.py configs/teachers/resnet50_cifar100.py
# Student    MobileNetV2, 64.60 top-1 alone in the literature
# Command    python tools/train.py configs/diffkd/resnet50_mobilenetv2_cifar100.py
# Batch      1 GPU x 64 images, 240 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [dist] earlier work of the paper's first author: networks, strategy, learning rate 0.01
#            for this student.
#            [ours] pairs: those of ImageNet, their losses and weights of 1; an autoencoder of 1024
#            channels, as on ImageNet, because the teacher's map has 2048.
_base_ = ['../_base_/cifar100.py', '../_base_/classifier-pairs_ae1024.py']

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=dict(
        _base_.model,
        backbone=dict(type='mmdiffkd.CIFARMobileNetV2', widen_factor=0.5),
        head=dict(_base_.model.head, in_channels=1280),
    ),
    teacher=dict(
        config='{{ fileDirname }}/../teachers/resnet50_cifar100.py',
        checkpoint='work_dirs/resnet50_cifar100/epoch_240.pth',
    ),
    pairs=_base_.pairs,
)

optim_wrapper = dict(optimizer=dict(lr=0.01))
