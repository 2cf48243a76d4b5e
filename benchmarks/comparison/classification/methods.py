# Own methods of the classification task: the ablations of DiffKD, and its pairs without diffusion.
_base_ = ['../../../configs/_base_/classifier-pairs.py', '../_base_/ablations.py']

methods = {
    name: {
        pair: dict(settings, head=dict(settings['head'], **arguments))
        for pair, settings in _base_.pairs.items()
    }
    for name, arguments in _base_.ablations.items()
}
methods['no_diffusion'] = dict(
    features=dict(_base_.pairs['features'], head=dict(type='AlignHead')),
    logits=dict(_base_.pairs['logits'], head=None),
)
