# The quickstart's student, distilled with DiffKD from the quickstart's teacher on the FPN maps.
#
# Teacher    retinanet_teacher_mini-coco.py, 77.0 ± 0.4 AP
# Student    retinanet_student_mini-coco.py, 48.7 ± 2.0 AP alone
# Command    bash tools/quickstart.sh
# Batch      1 CPU x 16 images, 16 epochs
# Published  none, the data is synthetic
# Measured   67.7 ± 0.5 AP, 88.7 ± 1.0 AP50 on 150 miniature pictures (3 seeds, one CPU thread)
#            With AlignHead instead of DiffKDHead 67.0 ± 1.4 AP, 88.8 ± 1.1 AP50
#
# Settings   loss_weight was chosen on the same pictures with an earlier version: 0 / 0.3 / 1 / 5
#            gave 50.1 / 65.0 / 68.5 / 66.1 AP (seed 0)
_base_ = './retinanet_student_mini-coco.py'

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/retinanet_teacher_mini-coco.py',
        checkpoint='work_dirs/quickstart/teacher/epoch_20.pth',
    ),
    pairs=dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            head=dict(type='DiffKDHead'),
            loss=dict(type='MSELoss', loss_weight=1.0),
        )
    ),
)

# What happens, as pictures of the features and as curves for every level: see vis_data in the work
# directory, and tools/analysis/plot_run.py.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmdiffkd.FeaturePictureHook', interval=160),
    dict(type='mmdiffkd.TelemetryHook', interval=10),
]
