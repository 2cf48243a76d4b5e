# DINOv2 ViT-B/14 -> ResNet-50 on ImageNet: DiffKD on the last feature map.
#
# Prepare    pip install timm; the teacher's weights come from the Hugging Face hub
# Teacher    timm vit_base_patch14_dinov2.lvd142m, trained without labels; a linear classifier on
#            its features has 84.5 top-1 (readme of DINOv2)
# Student    mmpretrain resnet50_8xb32_in1k, 76.55 top-1 alone
# Command    bash tools/dist_train.sh configs/diffkd/dinov2-b_resnet50_imagenet.py 8
# Batch      8 GPUs x 32 images, 100 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [ref] strategy B1.
#            [ours] the pair, its weight, the teacher's 16x16 map of 224x224 images.
_base_ = ['mmpretrain::_base_/models/resnet50.py', '../_base_/imagenet-b1.py']

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(
        config=dict(type='mmdiffkd.FeatureExtractor', name='timm::vit_base_patch14_dinov2.lvd142m'),
        checkpoint='zoo',
        image_size=224,
    ),
    pairs=dict(
        features=dict(
            student='backbone',
            teacher='features',
            head=dict(type='DiffKDHead'),
            loss=dict(type='MSELoss', loss_weight=1.0),
        ),
    ),
)
