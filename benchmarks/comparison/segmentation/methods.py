# Methods of one's own for the segmentation task: DiffKD's ablations, and its pairs without diffusion.
_base_ = ['../../../configs/_base_/segmentor-pairs.py', '../ablations.py']

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
