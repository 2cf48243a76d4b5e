# Cascade Mask R-CNN X101 -> Faster R-CNN R50: DiffKD on the FPN maps, plain distances on the RoI
# head's scores and boxes; neck and RPN start from the teacher's weights.
#
# Teacher    mmdet cascade-mask-rcnn_x101-64x4d_fpn_20e_coco, 45.6 AP
# Student    mmdet faster-rcnn_r50_fpn_2x_coco, 38.4 AP alone, here with class-agnostic boxes
# Command    bash tools/dist_train.sh \
#                configs/diffkd/cascade-mask-rcnn_x101_faster-rcnn_r50_coco.py 8
# Batch      8 GPUs x 2 images, 24 epochs
# Published  none that we have a source for
# Measured   not measured
#
# Settings   [det] detection configs that two of the paper's authors published: pairs, weights,
#            gradient clipping, class-agnostic boxes, inheriting, and that the teacher's first stage
#            runs on the proposals that the student has sampled. Their learning rate of 0.02 is
#            that of the base config.
_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py', '../_base_/distillation_run.py']

student = _base_.model
student.roi_head.bbox_head.reg_class_agnostic = True

# Both look at the same boxes: the teacher's first stage at those that the student has sampled.
proposals = dict(
    student='roi_head.bbox_roi_extractor:input[rois]',
    teacher='roi_head.bbox_roi_extractor.0:input[rois]',
)

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=student,
    teacher=dict(
        config='mmdet::cascade_rcnn/cascade-mask-rcnn_x101-64x4d_fpn_20e_coco.py',
        checkpoint='zoo',
    ),
    init_from_teacher=['neck', 'rpn_head'],
    pairs=dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            head=dict(type='DiffKDHead'),
            loss=dict(type='MSELoss', loss_weight=1.0),
        ),
        roi_cls=dict(
            student='roi_head.bbox_head.fc_cls',
            teacher='roi_head.bbox_head.0.fc_cls',
            teacher_inputs=proposals,
            loss=dict(type='DISTLoss', beta=1.0, gamma=1.0, loss_weight=1.0),
        ),
        roi_reg=dict(
            student='roi_head.bbox_head.fc_reg',
            teacher='roi_head.bbox_head.0.fc_reg',
            teacher_inputs=proposals,
            loss=dict(type='SmoothL1Loss', loss_weight=1.0),
        ),
    ),
)

optim_wrapper = dict(optimizer=dict(lr=0.02), clip_grad=dict(max_norm=35, norm_type=2))

# Nobody reads them; what counts is in the model.
del student, proposals

# As in all runs of this package: whole files, and each GPU draws its own noise.
default_hooks = dict(checkpoint=dict(type='mmdiffkd.SafeCheckpointHook'))
randomness = dict(seed=None, diff_rank_seed=True)
