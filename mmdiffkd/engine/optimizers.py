"""Optimizers that neither torch nor the host libraries have."""

from typing import Any, Iterable

from torch.optim import Optimizer

from mmdiffkd.registry import OPTIMIZERS


@OPTIMIZERS.register_module(name='RMSpropTF')
def rmsprop_tf(params: Iterable, **kwargs: Any) -> Optimizer:
    """timm's ``RMSpropTF``: RMSprop as TensorFlow has it.

    Other than in torch, epsilon is added inside the square root, the mean of squared gradients
    starts at one, and the momentum buffer holds steps already scaled by the learning rate.

    Args:
        params: Parameters or parameter groups.
        **kwargs: ``lr``, ``alpha``, ``eps``, ``momentum``, ``weight_decay``; see
            ``timm.optim.RMSpropTF``.

    Raises:
        ImportError: If timm is not installed.
    """
    try:
        from timm.optim import RMSpropTF
    except ImportError as error:
        raise ImportError(
            "The optimizer 'mmdiffkd.RMSpropTF' is timm's; install it with `pip install timm`"
        ) from error
    return RMSpropTF(params, **kwargs)
