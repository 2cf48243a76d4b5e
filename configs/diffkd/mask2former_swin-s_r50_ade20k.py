# Mask2Former Swin-S -> Mask2Former R50 on ADE20K: DiffKD on the maps that masks are made from.
#
# Teacher    mmseg mask2former_swin-s_8xb2-160k_ade20k-512x512, 51.24 mIoU
# Student    mmseg mask2former_r50_8xb2-160k_ade20k-512x512, 47.87 mIoU alone
# Command    bash tools/dist_train.sh configs/diffkd/mask2former_swin-s_r50_ade20k.py 8
# Batch      8 GPUs x 2 images, 160,000 iterations
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [ours] pairs, weights 1; mmseg's own learning rate, schedule and gradient clipping.
_base_ = [
    'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py',
    '../_base_/distillation_run.py',
]

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(
        config='mmseg::mask2former/mask2former_swin-s_8xb2-160k_ade20k-512x512.py',
        checkpoint='zoo',
    ),
    pairs=dict(
        # The map that is multiplied with the queries; the scores are those of queries, which have
        # no common order.
        mask_features=dict(
            student='decode_head.pixel_decoder[0]',
            teacher='decode_head.pixel_decoder[0]',
            head=dict(type='DiffKDHead'),
            loss=dict(type='MSELoss', loss_weight=1.0),
        ),
    ),
)

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
