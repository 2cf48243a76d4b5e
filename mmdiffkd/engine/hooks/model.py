"""The distiller that a runner trains."""

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
    """The runner's model, without DDP around it.

    Args:
        runner: The runner.
        hook: Who asks, for the error.

    Raises:
        ConfigError: If the model is no distiller.
    """
    model = model_of(runner)
    if not isinstance(model, DiffKDDistiller):
        raise ConfigError(
            f'{type(hook).__name__} needs a model of type mmdiffkd.DiffKDDistiller, '
            f'got {type(model).__name__}'
        )
    return model
