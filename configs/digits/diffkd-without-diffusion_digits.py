# The pairs of diffkd_digits.py without diffusion: what is DiffKD's, what the pairs'?
#
# The student's feature map is only projected, its logits are compared as they are.
#
# Teacher    teacher_digits.py, 97.76 top-1; train it first:
#            python tools/train.py configs/digits/teacher_digits.py
# Student    student_digits.py, 95.02 top-1 alone
# Command    python tools/train.py configs/digits/diffkd-without-diffusion_digits.py
# Batch      1 CPU x 50 images, 120 epochs of 300 images
# Published  none
# Measured   97.04 ± 0.46 top-1 on 1197 test images, mean ± standard deviation of seeds 0 to 4
#
# Settings   tau of the logits and loss_weight of the features: the best of four on validation
#            images, see docs/digits.md.
_base_ = './diffkd_digits.py'

model = dict(
    pairs=dict(
        features=dict(head=dict(_delete_=True, type='AlignHead'), loss=dict(loss_weight=1.0)),
        logits=dict(head=None, loss=dict(tau=4.0)),
    ),
)
