# ResNet-32x4 -> ShuffleNetV2 on CIFAR-100: DiffKD on the last feature map and the logits.
#
# Teacher    resnet32x4_cifar100.py, 79.42 top-1 in the literature; train it first:
#            python tools/train.py configs/teachers/resnet32x4_cifar100.py
# Student    ShuffleNetV2, 71.82 top-1 alone in the literature
# Command    python tools/train.py configs/diffkd/resnet32x4_shufflenetv2_cifar100.py
# Batch      1 GPU x 64 images, 240 epochs
# Published  77.52 top-1 on a public results page, which does not name the networks; probably these
# Measured   not measured
#
# Settings   [dist] earlier work of the paper's first author: networks, strategy, learning rate 0.01
#            for this student.
#            [ours] pairs: those of ImageNet, their losses and weights of 1; no autoencoder, as the
#            teacher's map is narrow (D is its width).
_base_ = ['../_base_/cifar100.py', '../_base_/classifier-pairs.py']

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=dict(
        _base_.model,
        backbone=dict(type='mmdiffkd.CIFARShuffleNetV2'),
        head=dict(_base_.model.head, in_channels=1024),
    ),
    teacher=dict(
        config='{{ fileDirname }}/../teachers/resnet32x4_cifar100.py',
        checkpoint='work_dirs/resnet32x4_cifar100/epoch_240.pth',
    ),
    pairs=_base_.pairs,
)

optim_wrapper = dict(optimizer=dict(lr=0.01))
