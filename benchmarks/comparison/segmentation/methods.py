# Own methods of the segmentation task: the ablations of DiffKD, and its pairs without diffusion.
_base_ = ['../../../configs/_base_/segmentor-pairs.py', '../_base_/ablations.py']

methods = {
    name: {
        pair: dict(settings, head=dict(settings['head'], **arguments))
        for pair, settings in _base_.pairs.items()
    }
    for name, arguments in _base_.ablations.items()
}
methods['no_diffusion'] = {
    pair: dict(settings, head=None) for pair, settings in _base_.pairs.items()
}
