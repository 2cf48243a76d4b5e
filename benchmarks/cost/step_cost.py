#!/usr/bin/env python
"""Measure what distillation adds to a training step, and compare it with a naive implementation.

Three models with random weights are built from a distillation config: the student alone, a naive
distiller (naive_distiller.py) with the same losses, and the distiller, which --switches repeats
with other settings. They take turns on the same batch of miniature data in one process, so that a
drift of the machine's speed affects all of them. Times are medians; bytes and operations are exact.
"""

import argparse
import copy
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from contender import Contender
from measuring import device_name
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from naive_distiller import build_naive_distiller, has_diffusion_head
from torch import nn

from mmdiffkd.apis import TRAINING_KEYS, KeyValueAction, check_complete, complete_model
from mmdiffkd.errors import ArgumentParser, ConfigError, add_debug_argument, one_line_errors
from mmdiffkd.models.configs import load_config, student_config
from mmdiffkd.testing import make_smoke_config

STUDENT, NAIVE, DISTILLER = 'student alone', 'naive distiller', 'distiller'
PARTS = ('teacher', 'heads forward', 'backward', 'rest')


def measure(
    cfg: Config,
    switches: Sequence[Dict[str, Any]] = (),
    steps: int = 20,
    warmup: int = 3,
    device: str = 'cpu',
    amp: bool = False,
    batch_size: int = 2,
    size: Tuple[int, int] = (320, 320),
    exact: bool = True,
) -> Dict[str, Any]:
    """Measure the student alone, the naive distiller and the distiller.

    Args:
        cfg: Distillation config; it is not changed.
        switches: Settings of each further distiller, such as
            ``{'teacher.precision': 'bf16', 'head.checkpoint': True}``.
        steps: Number of measured steps; 0 measures bytes and operations only.
        warmup: Number of steps before them.
        device: ``'cpu'`` or ``'cuda'``.
        amp: Whether training uses bfloat16 autocast.
        batch_size: Number of images per step.
        size: Width and height of the images in pixels.
        exact: Whether bytes and operations are counted, which compiled code does not show.

    Returns:
        The ``'setting'``, and per model of the ``'contenders'`` its figures and ratios.
    """
    torch.manual_seed(0)
    init_default_scope(cfg.default_scope)
    with tempfile.TemporaryDirectory() as folder:
        smoke = Config(cfg.to_dict(), filename=cfg.filename)
        smoke.work_dir = folder
        smoke = make_smoke_config(smoke, image_size=tuple(size))
        batch = _batch(smoke, batch_size)
    smoke.model = complete_model(smoke)
    contenders = {
        name: Contender(model, smoke, batch, device, amp)
        for name, model in _models(smoke.model, switches).items()
    }
    order = list(contenders.values())
    for index in range(warmup + steps):
        # No model always follows the same one.
        for contender in order if index % 2 else reversed(order):
            contender.step()
    for contender in order:
        contender.rounds = contender.rounds[warmup:]
    return dict(
        setting=dict(
            config=Path(cfg.filename).stem,
            pairs=list(cfg.model.pairs),
            images=list(contenders[STUDENT].data()['inputs'].shape),
            amp=amp,
            device=device_name(torch.device(device)),
            torch=torch.__version__,
            steps=steps,
        ),
        contenders={
            name: _results(contender, contenders[STUDENT], contenders.get(NAIVE), exact)
            for name, contender in contenders.items()
        },
    )


def _models(cfg: ConfigDict, switches: Sequence[Dict[str, Any]]) -> Dict[str, nn.Module]:
    """The models to compare, by their names in the report."""
    models = {STUDENT: MODELS.build(student_config(cfg))}
    # The teacher of the naive distiller runs on its own proposals.
    if not any(pair.get('teacher_inputs') for pair in cfg.pairs.values()):
        models[NAIVE] = build_naive_distiller(cfg)
    models[DISTILLER] = MODELS.build(cfg)
    for settings in switches:
        name = ' '.join(f'{key}={value}' for key, value in settings.items())
        models[name] = MODELS.build(switched(cfg, settings))
    return models


def _batch(cfg: Config, batch_size: int) -> Any:
    """A batch of ``batch_size`` training images, repeated if there are fewer."""
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    images = [loader.dataset[index % len(loader.dataset)] for index in range(batch_size)]
    return loader.collate_fn(images)


def switched(model: ConfigDict, settings: Dict[str, Any]) -> ConfigDict:
    """A copy of a distiller's model dict with other settings of teacher and heads.

    Args:
        model: Model dict of a distiller; it is not changed.
        settings: Keys are ``'teacher.<argument>'`` and ``'head.<argument>'``; the latter hold
            for the diffusion heads of all pairs.
    """
    model = copy.deepcopy(model)
    for key, value in settings.items():
        where, _, argument = key.partition('.')
        if where == 'teacher' and argument:
            model.teacher[argument] = value
        elif where == 'head' and argument:
            pairs = [pair for pair in model.pairs.values() if has_diffusion_head(pair)]
            if not pairs:
                raise ConfigError(f'--switches {key}: no pair has a DiffKDHead')
            for pair in pairs:
                pair.head[argument] = value
        else:
            raise ConfigError(f'--switches takes teacher.NAME and head.NAME, got {key!r}')
    return model


def _results(
    contender: Contender, student: Contender, naive: Optional[Contender], exact: bool
) -> Dict[str, Any]:
    results: Dict[str, Any] = contender.exact_figures() if exact else {}
    if contender.peak_bytes is not None:
        results['peak GPU bytes'] = contender.peak_bytes
    if not contender.rounds:
        return results
    results['ms per step'] = statistics.median(times['step'] for times in contender.rounds)
    if contender is student:
        return results
    for part in PARTS:
        results[f'ms {part}'] = _median_difference(contender, student, part)
    results['ms overhead'] = _median_difference(contender, student, 'step')
    if naive is None:
        return results
    # Of each round, so that a drift of the machine's speed cancels.
    results['overhead / naive'] = statistics.median(
        (mine['step'] - alone['step']) / (theirs['step'] - alone['step'])
        for mine, theirs, alone in zip(contender.rounds, naive.rounds, student.rounds)
    )
    return results


def _median_difference(contender: Contender, student: Contender, part: str) -> float:
    return statistics.median(
        mine.get(part, 0.0) - alone.get(part, 0.0)
        for mine, alone in zip(contender.rounds, student.rounds)
    )


def report(results: Dict[str, Any]) -> str:
    """The results as a table for people."""
    setting = results['setting']
    title = (
        f'{setting["config"]}, pairs {", ".join(setting["pairs"])}, images '
        f'{"x".join(map(str, setting["images"]))}, '
        f'{"bfloat16 autocast" if setting["amp"] else "float32"}, {setting["device"]}, '
        f'torch {setting["torch"]}, medians of {setting["steps"]} interleaved steps'
    )
    rows = [(title, '')]
    for name, figures in results['contenders'].items():
        rows.append((name, ''))
        rows += [(f'    {figure}', _format(figure, value)) for figure, value in figures.items()]
    return '\n'.join(f'{text:<40}{value:>12}'.rstrip() for text, value in rows)


def _format(figure: str, value: float) -> str:
    if 'bytes' in figure:
        return f'{value / 2**20:.1f} MiB'
    if 'FLOPs' in figure:
        return f'{value / 1e9:.1f} G'
    return f'{value:.2f}' if 'naive' in figure else f'{value:.0f}'


class SwitchesAction(KeyValueAction):
    """One dict for each time that the flag is given."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Append the dict of these values."""
        given = getattr(namespace, self.dest)
        setattr(namespace, self.dest, {})
        super().__call__(parser, namespace, values, option_string)
        setattr(namespace, self.dest, [*given, getattr(namespace, self.dest)])


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of a distillation config')
    parser.add_argument('--pairs', nargs='+', metavar='NAME', help='pairs (default: all)')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(320, 320), metavar=('W', 'H'),
        help='image size in pixels (default: 320 320)',
    )  # fmt: skip
    parser.add_argument('--batch', type=int, default=2, help='images per step (default: 2)')
    parser.add_argument('--steps', type=int, default=20, help='counted steps of each (default: 20)')
    parser.add_argument('--warmup', type=int, default=3, help='steps not counted (default: 3)')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cpu or cuda'
    )
    parser.add_argument('--amp', action='store_true', help='train in bfloat16 autocast')
    parser.add_argument(
        '--switches', nargs='+', action=SwitchesAction, default=[], metavar='KEY=VALUE',
        help='measure one more distiller with teacher.KEY or head.KEY so, for example '
        'teacher.precision=bf16 head.checkpoint=True; may be repeated',
    )  # fmt: skip
    add_debug_argument(parser)
    parser.add_argument('--json', type=Path, help='also write the results here')
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    cfg = load_config(args.config, 'config')
    check_complete(cfg, TRAINING_KEYS)
    if 'pairs' not in cfg.model:
        raise ConfigError(f'{args.config} is no distillation config')
    if args.pairs:
        unknown = set(args.pairs) - set(cfg.model.pairs)
        if unknown:
            raise SystemExit(
                f'--pairs: {args.config} has {", ".join(cfg.model.pairs)}, not {", ".join(unknown)}'
            )
        cfg.model.pairs = ConfigDict({name: cfg.model.pairs[name] for name in args.pairs})
    results = measure(
        cfg, args.switches, args.steps, args.warmup, args.device, args.amp, args.batch, args.size
    )
    print(report(results))
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2) + '\n')


def main() -> None:
    args = parse_args()
    with one_line_errors(args.debug):
        run(args)


if __name__ == '__main__':
    main()
