"""Activation checkpointing that updates the statistics of batch norms once."""

from contextlib import nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def recomputed(module: nn.Module, *inputs: Any) -> Any:
    """``module(*inputs)``, whose activations are computed again in the backward pass.

    Args:
        module: Module that draws no random numbers.
        *inputs: Arguments of the module, of which tensors are kept for the backward pass.
    """
    return checkpoint(
        module,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), FixedStatistics(module)),
    )


class FixedStatistics:
    """A context in which the running statistics of a module's batch norms stay as they are.

    Args:
        module: Module that runs inside the context, which may be entered again.
    """

    def __init__(self, module: nn.Module) -> None:
        parts = module.modules()
        self.norms = [part for part in parts if getattr(part, 'momentum', None) is not None]

    def __enter__(self) -> None:
        self.momenta = [norm.momentum for norm in self.norms]
        for norm in self.norms:
            norm.momentum = 0.0

    def __exit__(self, *error: Any) -> None:
        for norm, momentum in zip(self.norms, self.momenta):
            norm.momentum = momentum
