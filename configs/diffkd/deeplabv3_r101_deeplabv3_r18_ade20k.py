# DeepLabV3 R101 -> DeepLabV3 R18 on ADE20K.
#
# Teacher    mmseg deeplabv3_r101-d8_4xb4-160k_ade20k-512x512, 45.00 mIoU
# Student    DeepLabV3 R18-D8, mIoU alone not known (mmseg does not train it on ADE20K)
# Command    bash tools/dist_train.sh \
#                configs/diffkd/deeplabv3_r101_deeplabv3_r18_ade20k.py 4
# Batch      4 GPUs x 4 images, 160,000 iterations
# Published  none for this pair that we have a source for. The paper's results page
#            lists 34.85 val mIoU for ADE20K without naming the pair.
# Measured   not measured
#
# Settings   [inferred] from a later project on the authors' segmentation code, which itself is not
#            published: DiffKD on the scores and, at 0.4, on those of the auxiliary head, without an
#            autoencoder, in five steps; DIST with beta = gamma = 1; all other weights 1.
#            [ours] The inner width of the heads; mmseg's own data and schedule.
#            With ../_base_/segmentor-pairs_features.py in the place of segmentor-pairs.py the
#            features before the classifier are paired (MSE), and the scores with a KL [ours].
_base_ = [
    'mmseg::deeplabv3/deeplabv3_r50-d8_4xb4-160k_ade20k-512x512.py',
    '../_base_/segmentor-pairs.py',
    '../_base_/distillation_run.py',
]

# mmseg has no ADE20K config of this student; these are the settings of its R18-D8 on Cityscapes.
student = _base_.model
student.update(pretrained='open-mmlab://resnet18_v1c')
student.backbone.update(depth=18)
student.decode_head.update(in_channels=512, channels=128)
student.auxiliary_head.update(in_channels=256, channels=64)

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=student,
    teacher=dict(
        config='mmseg::deeplabv3/deeplabv3_r101-d8_4xb4-160k_ade20k-512x512.py',
        checkpoint='zoo',
    ),
    pairs=_base_.pairs,
)

# Nobody reads it; what counts is model.student.
del student

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
