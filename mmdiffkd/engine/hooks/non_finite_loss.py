"""Stop a training whose loss is not finite."""

import logging
import math
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

import torch
from mmengine.dist import all_gather_object, all_reduce, get_comm_device, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint
from torch import Tensor

from mmdiffkd.engine.hooks.model import model_of, student_losses
from mmdiffkd.errors import UserError
from mmdiffkd.messages import tell
from mmdiffkd.models import DiffKDDistiller
from mmdiffkd.registry import HOOKS

# The iteration, from 0, whose losses are compared, and how many times the others one may be.
_LOOKED_AT, _LARGEST_RATIO = 9, 10


class NonFiniteLossError(UserError, RuntimeError):
    """A loss, or a weight that was about to be saved, is infinite or not a number."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Ends a training whose loss is inf or nan, in all processes after the same iteration.

    Finite losses can have gradients that are not finite, so the main process also checks weights
    before it saves them. If it ends, torchrun ends the other processes; without torchrun they end
    with an error, at the latest after ``env_cfg.dist_cfg.timeout``.

    In the tenth iteration it warns of the loss of a pair that is far above those of the student.
    """

    # After RuntimeInfoHook and before hooks that save weights.
    priority = 'HIGH'

    def __init__(self) -> None:
        self._never_finite: Set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Note the entries of the state that are meant not to be finite, such as masks of -inf."""
        self._never_finite = set(_non_finite(model_of(runner).state_dict().items()))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Optional[Dict] = None
    ) -> None:
        """Stop if a loss of any process is not finite."""
        # RuntimeInfoHook has waited for the GPU and read them already.
        read = runner.message_hub.log_scalars
        losses = {
            name: read[f'train/{name}'].current() if f'train/{name}' in read else float(value)
            for name, value in outputs.items()
            if 'loss' in name
        }
        names = [name for name, value in losses.items() if not math.isfinite(value)]
        is_bad = bool(names)
        if get_world_size() > 1:
            anywhere = torch.tensor(float(is_bad), device=get_comm_device(None))
            all_reduce(anywhere, 'max')
            is_bad = bool(anywhere)
        if is_bad:
            # The total says nothing if its parts are named.
            names = [name for name in names if name != 'loss'] or names
            text = ', '.join(f'{name} is {losses[name]}' for name in names)
            texts = all_gather_object(text)
            if len(texts) > 1:
                text = '; '.join(f'rank {rank}: {t}' for rank, t in enumerate(texts) if t)
            _stop(runner, f'iteration {runner.iter + 1}: {text}')
        if runner.iter == _LOOKED_AT and isinstance(model_of(runner), DiffKDDistiller):
            _warn_of_scale(runner, losses)

    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Check the weights that are about to be saved."""
        names = [k for k in _non_finite(checkpoint['state_dict'].items())
                 if k not in self._never_finite]  # fmt: skip
        if names:
            names[3:] = [f'{len(names) - 3} more'] if len(names) > 3 else []
            cause = 'in a step whose losses were finite and whose gradients were not'
            _stop(runner, f'{", ".join(names)} became inf or nan {cause}')


def _non_finite(named: Iterable[Tuple[str, Any]]) -> List[str]:
    return [k for k, v in named if isinstance(v, Tensor) and not v.isfinite().all()]


def _warn_of_scale(runner: Runner, losses: Dict[str, float]) -> None:
    """Warn of pairs whose losses are far larger than the sum of the student's own."""
    own = abs(sum(student_losses(losses, model_of(runner)).values()))
    for name, value in losses.items():
        if name.startswith('loss_kd_') and own and value > _LARGEST_RATIO * own:
            pair = name.removeprefix('loss_kd_')
            tell(
                f'{name} is {value:.3g}, {value / own:.0f} times the sum of the losses of the '
                f'student, {own:.3g}, which may then hardly count; pull_{pair} of TelemetryHook '
                f'tells, and pairs.{pair}.weight lowers it',
                logging.WARNING,
            )


def _stop(runner: Runner, what: str) -> None:
    last = 'there is no checkpoint yet'
    if Path(runner.work_dir, 'last_checkpoint').is_file():
        last = f'the last checkpoint is {find_latest_checkpoint(runner.work_dir)}'
    raise NonFiniteLossError(f'{what}; nothing was saved since, {last}')
