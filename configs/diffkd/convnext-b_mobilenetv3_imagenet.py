# ConvNeXt-B -> MobileNetV3-Large on ImageNet: DiffKD on the last feature map and the logits.
#
# Teacher    mmpretrain convnext-base_32xb128_in1k, 83.66 top-1
# Student    mmpretrain mobilenet-v3-large_8xb128_in1k, 73.49 top-1 alone
# Command    bash tools/dist_train.sh configs/diffkd/convnext-b_mobilenetv3_imagenet.py 8
# Batch      8 GPUs x 128 images, 600 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [ours] the pairs and weights of the other classifiers [ref], gradient clipping;
#            mmpretrain's own data, learning rate and schedule.
_base_ = [
    'mmpretrain::mobilenet_v3/mobilenet-v3-large_8xb128_in1k.py',
    '../_base_/classifier-pairs.py',
    '../_base_/distillation_run.py',
]

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(config='mmpretrain::convnext/convnext-base_32xb128_in1k.py', checkpoint='zoo'),
    pairs=dict(
        # What ConvNeXt's backbone returns is pooled already.
        features=dict(_base_.pairs.features, teacher='backbone.stages.3'),
        logits=dict(_base_.pairs.logits, student='head'),
    ),
)

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
