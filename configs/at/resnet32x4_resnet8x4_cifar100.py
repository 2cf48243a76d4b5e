# ResNet-32x4 -> ResNet-8x4 on CIFAR-100: attention transfer on the maps of all stages.
#
# Teacher    resnet32x4_cifar100.py, 79.42 top-1 in the literature; train it first:
#            python tools/train.py configs/teachers/resnet32x4_cifar100.py
# Student    ResNet-8x4, 72.50 top-1 alone in the literature
# Command    python tools/train.py configs/at/resnet32x4_resnet8x4_cifar100.py
# Batch      1 GPU x 64 images, 240 epochs
# Published  73.44 top-1, the readme of HobbitLong/RepDistiller
# Measured   not measured
#
# Settings   [pub] RepDistiller: the three stages, weight 1000; schedule as in the DiffKD config.
_base_ = '../diffkd/resnet32x4_resnet8x4_cifar100.py'

model = dict(
    pairs=dict(
        _delete_=True,
        **{
            f'stage{i}': dict(
                student=f'backbone.stages.{i}',
                teacher=f'backbone.stages.{i}',
                loss=dict(type='ATLoss', p=2, loss_weight=1000.0),
            )
            for i in (0, 1, 2)
        },
    ),
)
