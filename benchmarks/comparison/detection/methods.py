# Own methods of the detection task: the ablations of DiffKD. Its pairs without diffusion are the
# method "align".
_base_ = '../_base_/ablations.py'

methods = {
    name: dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            head=dict(type='DiffKDHead', **arguments),
            loss=dict(type='MSELoss', loss_weight=5.0),
        )
    )
    for name, arguments in _base_.ablations.items()
}
