"""Access to the model of a runner."""

from typing import Any, Dict

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmdiffkd.errors import ConfigError
from mmdiffkd.models import DiffKDDistiller


def model_of(runner: Runner) -> nn.Module:
    """The runner's model, without DDP around it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def student_losses(losses: Dict[str, Any], distiller: DiffKDDistiller) -> Dict[str, Any]:
    """Those of the losses in a log that are the student's own, neither a pair's nor the sum."""
    of_pairs = {f'loss_{kind}_{name}' for kind in ('kd', 'diff', 'ae') for name in distiller.pairs}
    return {name: value for name, value in losses.items() if name not in of_pairs | {'loss'}}


def distiller_of(runner: Runner, hook: Hook) -> DiffKDDistiller:
    """The runner's model, for a hook that needs a distiller; ConfigError if it is none."""
    model = model_of(runner)
    if not isinstance(model, DiffKDDistiller):
        what = f'{type(hook).__name__} needs a model of type mmdiffkd.DiffKDDistiller'
        raise ConfigError(f'{what}, got {type(model).__name__}')
    return model
