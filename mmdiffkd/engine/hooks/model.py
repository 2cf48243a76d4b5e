"""Access to the model and the optimizers of a runner."""

from typing import List

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn

from mmdiffkd.errors import ConfigError
from mmdiffkd.models import DiffKDDistiller


def model_of(runner: Runner) -> nn.Module:
    """The runner's model, without DDP around it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def distiller_of(runner: Runner, hook: Hook) -> DiffKDDistiller:
    """The runner's model for a hook that needs a distiller; ConfigError if it is none."""
    model = model_of(runner)
    if not isinstance(model, DiffKDDistiller):
        raise ConfigError(
            f'{type(hook).__name__} needs a model of type mmdiffkd.DiffKDDistiller, '
            f'got {type(model).__name__}'
        )
    return model


def optim_wrappers_of(runner: Runner) -> List[OptimWrapper]:
    """The runner's optimizer wrappers: one, or those of an ``OptimWrapperDict``."""
    wrapper = runner.optim_wrapper
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
