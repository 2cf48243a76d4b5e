# DINOv2 ViT-B/14 -> ResNet-50 without labels: DiffKD on the last feature map, no other loss.
#
# Any images will do: train_dataloader.dataset.data_root and .data_prefix name their folder, which
# may have folders in it. Other models start from the result with
# backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='...', prefix='backbone.')).
#
# Prepare    pip install timm; the teacher's weights come from the Hugging Face hub
# Teacher    timm vit_base_patch14_dinov2.lvd142m, trained without labels; a linear classifier on
#            its features has 84.5 top-1 (readme of DINOv2)
# Student    mmpretrain resnet50, which has no results before a classifier is trained on it
# Command    bash tools/dist_train.sh configs/diffkd/dinov2-b_resnet50-label-free_imagenet.py 8
# Batch      8 GPUs x 32 images, 100 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [ours] all: those of dinov2-b_resnet50_imagenet.py, without the classifier.
_base_ = './dinov2-b_resnet50_imagenet.py'

model = dict(
    student=dict(
        _delete_=True,
        type='mmdiffkd.BackboneModel',
        backbone=_base_.model.student.backbone,
    ),
)
data_preprocessor = dict(type='ClsDataPreprocessor')
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/imagenet',
        data_prefix='train',
        with_label=False,
        pipeline=_base_.train_pipeline,
    ),
)
# Nothing can be evaluated without labels.
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None
default_hooks = dict(checkpoint=dict(save_best=None))
