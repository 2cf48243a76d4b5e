# Own methods of the segmentation task: the ablations of DiffKD, its pairs without diffusion, and
# DiffKD on the scores alone.
_base_ = '../_base_/ablations.py'

# Those of the method "diffkd".
pairs = dict(
    features=dict(
        student='decode_head.scale_heads.3',
        teacher='decode_head.scale_heads.3',
        head=dict(type='DiffKDHead'),
        loss=dict(type='MSELoss', loss_weight=1.0),
    ),
    logits=dict(
        student='decode_head',
        teacher='decode_head',
        head=dict(type='DiffKDHead', reduction=1, adapter_reduction=1),
        loss=dict(type='KLDivLoss', loss_weight=1.0),
    ),
)

methods = {
    name: {
        pair: dict(settings, head=dict(settings['head'], **arguments))
        for pair, settings in pairs.items()
    }
    for name, arguments in _base_.ablations.items()
}
methods['no_diffusion'] = dict(
    features=dict(pairs['features'], head=dict(type='AlignHead')),
    logits=dict(pairs['logits'], head=None),
)
methods['diffkd_scores'] = dict(
    logits=dict(pairs['logits'], loss=dict(type='DISTLoss', loss_weight=1.0))
)
