"""Optimizers that neither torch nor the host libraries have."""

from typing import Any, Iterable

from torch.optim import Optimizer

from mmdiffkd.registry import OPTIMIZERS


@OPTIMIZERS.register_module(name='RMSpropTF')
def rmsprop_tf(params: Iterable, **kwargs: Any) -> Optimizer:
    """timm's ``RMSpropTF``: RMSprop as TensorFlow has it, with epsilon inside the square root."""
    from timm.optim import RMSpropTF  # an optional dependency

    return RMSpropTF(params, **kwargs)
