"""Activation checkpointing that updates the statistics of batch norms once."""

from contextlib import nullcontext
from typing import Any

import torch
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
        context_fn=lambda: (nullcontext(), UnchangedBuffers(module)),
    )


class UnchangedBuffers:
    """A context that gives the buffers of a module their values back at its end.

    Args:
        module: Module that runs inside the context, which may be entered again.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.values = [buffer.clone() for buffer in self.module.buffers()]

    @torch.no_grad()
    def __exit__(self, *error: Any) -> None:
        for buffer, value in zip(self.module.buffers(), self.values):
            buffer.copy_(value)
        del self.values
