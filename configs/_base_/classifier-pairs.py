# Pairs of classifiers: the last feature map and the logits, diffused in the teacher's own widths.
# A config takes them as `model.pairs`; that is where to change them on a command line.
pairs = dict(
    features=dict(
        student='backbone',
        teacher='backbone',
        head=dict(type='DiffKDHead', kernel_size=3),
        loss=dict(type='MSELoss', loss_weight=1.0),
    ),
    logits=dict(
        student='head.fc',
        teacher='head.fc',
        head=dict(type='DiffKDHead', kernel_size=1),
        loss=dict(type='KLDivLoss', tau=1.0, loss_weight=1.0),
    ),
)
