# The digits experiment's student with plain logit distillation (Hinton et al., 2015).
#
# Teacher    teacher_digits.py, 97.76 top-1; train it first:
#            python tools/train.py configs/digits/teacher_digits.py
# Student    student_digits.py, 95.02 top-1 alone
# Command    python tools/train.py configs/digits/logit-kd_digits.py
# Batch      1 CPU x 50 images, 120 epochs of 300 images
# Published  none
# Measured   96.98 ± 0.18 top-1 on 1197 test images, mean ± standard deviation of seeds 0 to 4
#
# Settings   tau and loss_weight: the best of four on validation images, see docs/digits.md.
_base_ = './student_digits.py'

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher_digits.py',
        checkpoint='work_dirs/teacher_digits/epoch_120.pth',
    ),
    pairs=dict(
        logits=dict(
            student='head.fc',
            teacher='head.fc',
            loss=dict(type='KLDivLoss', tau=4.0, loss_weight=1.0),
        ),
    ),
)
