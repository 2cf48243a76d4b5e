# The digits experiment's student with DiffKD on the last feature map and the logits.
#
# Teacher    teacher_digits.py, 97.76 top-1; train it first:
#            python tools/train.py configs/digits/teacher_digits.py
# Student    student_digits.py, 95.02 top-1 alone
# Command    python tools/train.py configs/digits/diffkd_digits.py
# Batch      1 CPU x 50 images, 120 epochs of 300 images
# Published  none
# Measured   96.02 ± 0.56 top-1 on 1197 test images, mean ± standard deviation of seeds 0 to 4
#
# Settings   pairs as for ImageNet, without autoencoder, as the teacher's map is narrow; tau of the
#            logits and loss_weight of the features: the best of four on validation images, see
#            docs/digits.md.
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
        features=dict(
            student='backbone',
            teacher='backbone',
            head=dict(type='DiffKDHead', kernel_size=3),
            loss=dict(type='MSELoss', loss_weight=5.0),
        ),
        logits=dict(
            student='head.fc',
            teacher='head.fc',
            head=dict(type='DiffKDHead', kernel_size=1),
            loss=dict(type='KLDivLoss', tau=1.0, loss_weight=1.0),
        ),
    ),
)
