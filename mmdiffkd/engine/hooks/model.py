"""Access to the model of a runner."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmdiffkd.errors import ConfigError
from mmdiffkd.models import DiffKDDistiller


def model_of(runner: Runner) -> nn.Module:
    """The runner's model, without DDP around it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def distiller_of(runner: Runner, hook: Hook) -> DiffKDDistiller:
    """The runner's model, for a hook that needs a distiller; ConfigError if it is none."""
    model = model_of(runner)
    if not isinstance(model, DiffKDDistiller):
        what = f'{type(hook).__name__} needs a model of type mmdiffkd.DiffKDDistiller'
        raise ConfigError(f'{what}, got {type(model).__name__}')
    return model
