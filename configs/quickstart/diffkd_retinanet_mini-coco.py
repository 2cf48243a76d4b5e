# The quickstart's student, distilled with DiffKD from the quickstart's teacher.
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
