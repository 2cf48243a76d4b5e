# SegFormer B2 -> SegFormer B0 on ADE20K: DiffKD on the last features and the scores.
#
# Teacher    mmseg segformer_mit-b2_8xb2-160k_ade20k-512x512, 45.58 mIoU
# Student    mmseg segformer_mit-b0_8xb2-160k_ade20k-512x512, 37.41 mIoU alone
# Command    bash tools/dist_train.sh configs/diffkd/segformer_b2_b0_ade20k.py 8
# Batch      8 GPUs x 2 images, 160,000 iterations
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [ours] pairs, weights 1, gradient clipping; mmseg's own data and schedule.
_base_ = [
    'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
    '../_base_/segmentor-pairs_features.py',
    '../_base_/distillation_run.py',
]

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(
        config='mmseg::segformer/segformer_mit-b2_8xb2-160k_ade20k-512x512.py', checkpoint='zoo'
    ),
    pairs=dict(
        features=dict(
            _base_.pairs.features,
            student='decode_head.fusion_conv',
            teacher='decode_head.fusion_conv',
        ),
        logits=_base_.pairs.logits,
    ),
)

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
