# ResNet-34 -> ResNet-18 on ImageNet: attention transfer on the maps of all stages.
#
# Teacher    mmpretrain resnet34_8xb32_in1k, 73.62 top-1 (the published experiment's: 73.31)
# Student    mmpretrain resnet18_8xb32_in1k, 69.90 top-1 alone (the published experiment's: 69.76)
# Command    bash tools/dist_train.sh configs/at/resnet34_resnet18_imagenet.py 8
# Batch      8 GPUs x 32 images, 100 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [pub] mdistiller's config: the four stages, weight 1000.
#            [ours] Batch and learning rate of strategy B1, half of theirs.
_base_ = '../diffkd/resnet34_resnet18_imagenet.py'

model = dict(
    pairs=dict(
        _delete_=True,
        **{
            f'stage{i}': dict(
                student=f'backbone.layer{i}',
                teacher=f'backbone.layer{i}',
                loss=dict(type='ATLoss', p=2, loss_weight=1000.0),
            )
            for i in (1, 2, 3, 4)
        },
    ),
)
