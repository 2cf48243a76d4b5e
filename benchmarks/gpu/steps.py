#!/usr/bin/env python
"""Measure training steps at full image size in bfloat16: the student alone, ours, the naive way.

Milliseconds by CUDA events, medians of interleaved steps; random weights. The goals are an overhead
of at most half of the naive one, and heads that keep less memory for their backward pass.
"""

from rows import ROOT, Rows, parse_part_args

import step_cost  # isort: skip
from mmengine.config import ConfigDict

from mmdiffkd.models.configs import load_config

SWITCHES = [
    {'teacher.precision': 'bf16'},
    {'teacher.channels_last': False},
    {'head.checkpoint': True},
]
COMPILED = [{'head.compile': True}]
# Library, config, pairs, width and height of an image in pixels, images in a batch.
SETTINGS = {
    'detector': ('mmdet', 'retinanet_r101_r50_coco', ['fpn'], (1333, 800), 2),
    'segmentor': ('mmseg', 'deeplabv3_r101_pspnet_r18_cityscapes', None, (1024, 512), 2),
    'classifier': ('mmpretrain', 'resnet34_resnet18_imagenet', None, (224, 224), 32),
}


def measure(rows: Rows, device: str, small: bool, title: str, compiled: bool = False) -> None:
    """Measure the steps of one config, and report a row for each of its models."""
    library, name, pairs, size, batch_size = SETTINGS[title]
    if not rows.has(title, library, 'diffusers'):
        return
    cfg = load_config(str(ROOT / 'configs' / 'diffkd' / f'{name}.py'), 'config')
    if pairs:
        cfg.model.pairs = ConfigDict({pair: cfg.model.pairs[pair] for pair in pairs})
    steps = 2 if small else 15
    if small:
        size, batch_size = (192, 128), 2
    switches, warmup = COMPILED if compiled else SWITCHES, 1 if small else 4
    results = step_cost.measure(
        cfg, switches, steps, warmup, device, device == 'cuda', batch_size, size, not compiled
    )
    shape = 'x'.join(map(str, results['setting']['images']))
    rows.add(title, None, config=name, images=shape)
    for model, found in results['contenders'].items():
        figures = {'ms': found['ms per step']}
        if 'peak GPU bytes' in found:
            figures['peak MiB'] = found['peak GPU bytes'] / 2**20
        passed = None
        if 'overhead / naive' in found:
            figures['overhead ms'] = found['ms overhead']
            figures['of naive'] = ratio = found['overhead / naive']
            figures.update({part: found[f'ms {part}'] for part in step_cost.PARTS})
            if not compiled:
                figures['heads keep MiB'] = found['bytes kept by the heads'] / 2**20
                if model == step_cost.NAIVE:
                    most = figures['heads keep MiB']
                elif model == step_cost.DISTILLER:
                    passed = figures['heads keep MiB'] < most and (ratio <= 0.5 or device == 'cpu')
        rows.add(f'{title}, {model}', passed, **figures)


def main() -> None:
    args = parse_part_args(__doc__, list(SETTINGS))
    measure(args.rows, args.device, args.small, args.variant, args.compile)


if __name__ == '__main__':
    main()
