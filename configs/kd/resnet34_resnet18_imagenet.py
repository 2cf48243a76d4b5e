# ResNet-34 -> ResNet-18 on ImageNet: the logits (Hinton et al., 2015).
#
# Teacher    mmpretrain resnet34_8xb32_in1k, 73.62 top-1 (the published experiment's: 73.31)
# Student    mmpretrain resnet18_8xb32_in1k, 69.90 top-1 alone (the published experiment's: 69.76)
# Command    bash tools/dist_train.sh configs/kd/resnet34_resnet18_imagenet.py 8
# Batch      8 GPUs x 32 images, 100 epochs
# Published  71.03 top-1, the readme of megvii-research/mdistiller
# Measured   not measured
#
# Settings   [pub] mdistiller's config: temperature 1, half of the weight for the task's loss and
#            half for the distance.
#            [ours] Batch and learning rate of strategy B1, half of theirs.
_base_ = '../diffkd/resnet34_resnet18_imagenet.py'

model = dict(
    student=dict(head=dict(loss=dict(loss_weight=0.5))),
    pairs=dict(
        _delete_=True,
        logits=dict(
            student='head.fc',
            teacher='head.fc',
            loss=dict(type='KLDivLoss', tau=1.0, loss_weight=0.5),
        ),
    ),
)
