# ResNet-34 -> ResNet-18 on ImageNet: DKD on the logits.
#
# Teacher    mmpretrain resnet34_8xb32_in1k, 73.62 top-1 (the published experiment's: 73.31)
# Student    mmpretrain resnet18_8xb32_in1k, 69.90 top-1 alone (the published experiment's: 69.76)
# Command    bash tools/dist_train.sh configs/dkd/resnet34_resnet18_imagenet.py 8
# Batch      8 GPUs x 32 images, 100 epochs
# Published  71.70 top-1, the readme of megvii-research/mdistiller
# Measured   not measured
#
# Settings   [pub] the authors' config (mdistiller): alpha, beta and temperature, no warm-up.
#            [ours] Batch and learning rate of strategy B1, half of theirs.
_base_ = '../diffkd/resnet34_resnet18_imagenet.py'

model = dict(
    pairs=dict(
        _delete_=True,
        logits=dict(
            student='head.fc',
            teacher='head.fc',
            loss=dict(type='DKDLoss', alpha=1.0, beta=0.5, tau=1.0),
        ),
    ),
)
