"""The end of a smoke run: what ran, what it cost, what was not tried, and how to go on."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, List, Optional, Sequence

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from mmdiffkd.engine.hooks.model import model_of
from mmdiffkd.models import DiffKDDistiller

_MEANINGS = dict(
    loss_kd='loss_kd the distance to the teacher',
    loss_diff='loss_diff trains the noise predictor',
)
# Every smoke run leaves this out.
_NEVER_TRIED = (
    'real sizes of images and batches, and the memory that they need',
    'whether the student learns anything, which so few steps cannot show',
)


def verdict(runner: Runner, not_tried: Sequence[str], command: str) -> str:
    """A summary of a finished smoke run for the terminal.

    One more step of the student alone is computed to time it.

    Args:
        runner: Runner of the smoke run, after training.
        not_tried: What the smoke run left out because it is not there, in words.
        command: Command with which to go on.
    """
    model = model_of(runner)
    is_distillation = isinstance(model, DiffKDDistiller)
    validated = '' if runner.val_loop is None else ', a validation'
    lines = [
        '',
        f'The smoke run passed. {runner.iter} training steps{validated} and a checkpoint worked,',
        'with made-up pictures and random weights.',
    ]
    if is_distillation:
        lines += ['', 'Pairs, with channels x height x width of their maps for one image:']
        lines += [f'  {pair.name}: {pair.summary}' for pair in model.pairs.values()]
    scalars = runner.message_hub.log_scalars
    losses = [name for name in scalars if name.startswith('train/') and 'loss' in name]
    # Those of the pairs come before the many of a transformer's decoder.
    first = ('train/loss', *(f'train/{kind}' for kind in _MEANINGS))
    losses.sort(key=lambda name: name not in first[:1] and not name.startswith(first[1:]))
    values = {name.removeprefix('train/'): scalars[name].data[0] for name in losses}
    changes = [f'{name} {steps[0]:.3g} -> {steps[-1]:.3g}' for name, steps in values.items()]
    known = [text for key, text in _MEANINGS.items() if any(key in name for name in losses)]
    meanings = '; '.join(['loss is the sum', *known])
    lines += ['Losses in the first and the last step. With random weights they and the validation']
    lines += [f'mean nothing ({meanings}):']
    lines += _wrapped(changes)
    lines += [_cost(runner, model), '', 'Not tried:']
    lines += [f'  {text}' for text in (*not_tried, *_NEVER_TRIED)]
    lines += ['Files:', *(f'  {text}' for text in _files(runner))]
    when = 'When the data and the weights are there' if not_tried else 'To train on your data'
    lines += [f'{when}, go on with:', f'  {command}']
    return '\n'.join(lines)


def _wrapped(items: Sequence[str], most: int = 12) -> List[str]:
    """The items in lines of three, the first ones only if there are many."""
    shown = list(items[:most])
    lines = [f'  {", ".join(shown[start : start + 3])}' for start in range(0, len(shown), 3)]
    more = len(items) - most
    return [*lines, f'  and {more} more in the log'] if more > 0 else lines


def _cost(runner: Runner, model: nn.Module) -> str:
    """The time of a training step, and that of the student alone."""
    scalars = runner.message_hub.log_scalars
    if 'train/time' not in scalars:
        return ''
    seconds = scalars['train/time'].current() - scalars['train/data_time'].current()
    text = f'A step took {seconds:.2f} s without loading of data'
    batch = next(iter(runner.train_dataloader))
    student = getattr(model, 'student', None)
    if student is not None and isinstance(batch, dict):
        wrapper = runner.optim_wrapper
        is_one = isinstance(wrapper, OptimWrapper)
        with wrapper.optim_context(model) if is_one else nullcontext():
            if seconds := _seconds(student, batch):
                text += f', one of the student alone {seconds:.2f} s'
    device = next(model.parameters()).device
    where = torch.cuda.get_device_name(device) if device.type == 'cuda' else 'the CPU'
    return f'{text}, on {where}.'


def _seconds(model: nn.Module, batch: Any) -> float:
    """The time of a training step on a batch, less the optimizer's part; 0 without losses."""
    model.train()
    data = model.data_preprocessor(batch, True)
    start = time.perf_counter()
    if not (losses := model(**data, mode='loss')):
        return 0.0
    model.parse_losses(losses)[0].backward()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    model.zero_grad()
    return seconds


def _files(runner: Runner) -> List[str]:
    """The files of the run that its user may want to see."""
    log: Optional[str] = runner.logger.log_file
    pictures = sorted(Path(runner.log_dir).rglob('pair_*'))
    found = [f'log      {log}'] if log else []
    return [*found, *(f'picture  {path}' for path in pictures)]
