#!/usr/bin/env python
"""Draw how well a trained noise predictor denoises the features of the teacher.

The teacher's features of one training batch get noise of growing strength and are denoised with
DDIM, as those of the student are in training. The figure shows the errors before and after
denoising over the noise level for every level of a pair, and pictures of the first level.

Example:
    python tools/analysis/noise_sweep.py CONFIG work_dirs/my_run/epoch_12.pth --out sweep.png
"""

import argparse
import sys
from pathlib import Path
from typing import List, Mapping, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch import Tensor

from mmdiffkd.apis import (
    TRAINING_KEYS,
    KeyValueAction,
    check_complete,
    complete_model,
    merge_options,
)
from mmdiffkd.checkpoints.download import fetch
from mmdiffkd.checkpoints.reading import load_file, weights_only
from mmdiffkd.checkpoints.weights import load_strictly
from mmdiffkd.diffusion import DiffKDHead, HeadOutput
from mmdiffkd.errors import ArgumentParser, add_debug_argument, one_line_errors
from mmdiffkd.models import DiffKDDistiller, DistillPair
from mmdiffkd.models.configs import load_config
from mmdiffkd.visualization import noise_sweep_figure, sweep_noise

NUM_LEVELS = 20


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of the distillation')
    parser.add_argument('checkpoint', help='checkpoint of the distillation')
    parser.add_argument(
        '--out', type=Path, default=Path('noise_sweep.png'), help='image (default: %(default)s)'
    )
    parser.add_argument('--pair', help='name of the pair (default: the first that denoises)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the batch and of the noise')
    parser.add_argument(
        '--trust-checkpoint', action='store_true', help='unpickle whatever the checkpoint contains'
    )
    parser.add_argument('--cfg-options', nargs='+', action=KeyValueAction, metavar='KEY=VALUE')
    add_debug_argument(parser)
    return parser.parse_args()


def build_trained(cfg: Config, checkpoint: str, trust: bool) -> DiffKDDistiller:
    """The distiller of a config with the weights of a distillation's checkpoint."""
    file = load_file(fetch(checkpoint), trust, 'give --trust-checkpoint')
    weights = file.get('state_dict')
    weights = weights if isinstance(weights, dict) else {}
    if not any(key.startswith('distill.') for key in weights):
        raise SystemExit(
            f'error: {checkpoint} has no distill. weights, so no noise predictor; an epoch_*.pth '
            f'or iter_*.pth of a distillation has'
        )
    with weights_only(trust):
        model = MODELS.build(complete_model(cfg))
    if not isinstance(model, DiffKDDistiller):
        raise SystemExit(f'error: the model of {cfg.filename} is no DiffKDDistiller')
    load_strictly(model, weights, f'checkpoint {checkpoint!r}')
    return model.to('cuda' if torch.cuda.is_available() else 'cpu').train()


def choose_pair(distiller: DiffKDDistiller, name: Optional[str]) -> DistillPair:
    """The named pair, or the first one with diffusion heads."""
    choices = {
        name: pair
        for name, pair in distiller.pairs.items()
        if any(isinstance(head, DiffKDHead) for head in pair.heads)
    }
    if not choices:
        raise SystemExit('error: no pair of this config has a DiffKDHead, nothing is denoised')
    if name is None:
        name = next(iter(choices))
    if name not in choices:
        raise SystemExit(
            f'error: --pair {name} is none of those with a DiffKDHead: {", ".join(choices)}'
        )
    return choices[name]


@torch.no_grad()
def targets(distiller: DiffKDDistiller, pair: DistillPair, cfg: Config, seed: int) -> List[Tensor]:
    """The teacher's features that a pair gets to see in one batch of training, one per level."""
    seen: List[Mapping[int, HeadOutput]] = []
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=seed)))
    with pair.register_output_hook(seen.append):
        distiller(**distiller.data_preprocessor(batch, True), mode='loss')
    return [output.target for output in seen[0].values()]


def draw(args: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    cfg = load_config(args.config, 'config')
    if args.cfg_options is not None:
        merge_options(cfg, args.cfg_options)
    check_complete(cfg, TRAINING_KEYS)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    distiller = build_trained(cfg, args.checkpoint, args.trust_checkpoint)
    pair = choose_pair(distiller, args.pair)
    set_random_seed(args.seed)
    sweeps = []
    for head, target in zip(pair.heads, targets(distiller, pair, cfg, args.seed)):
        timesteps = np.linspace(0, len(head.signal_scale) - 1, NUM_LEVELS).round().astype(int)
        sweeps.append(sweep_noise(head, target, timesteps.tolist()))
    title = f"Pair {pair.name}: the teacher's features, noisy and denoised"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    noise_sweep_figure(title, sweeps).savefig(args.out)
    print(f'{args.out}: pair {pair.name}')


def main() -> None:
    args = parse_args()
    with one_line_errors(args.debug):
        draw(args)


if __name__ == '__main__':
    main()
