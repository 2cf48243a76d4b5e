"""Less memory for more time: what forward does not keep, backward computes again."""

from contextlib import contextmanager
from typing import Any, Callable, Iterator, Tuple, Union

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Outputs = Union[Tensor, Tuple[Tensor, ...]]


class Recompute:
    """Runs functions so that only their inputs are kept for the backward.

    ``torch.utils.checkpoint`` does the same for any function, at twice the price on small maps: it
    has Python called for every tensor that autograd keeps, in forward, recomputation and backward.

    Gradients of gradients are refused. Hooks that users put on parameters run twice, in the
    recomputation and where gradients are accumulated.

    Args:
        module: What the functions run. Its buffers change as in one run, not two: batch norm
            counts its batch once.
    """

    def __init__(self, module: nn.Module) -> None:
        self.parameters = list(module.parameters())
        # `data` hides from autograd, which has noted the buffers' versions in forward, that the
        # values are put back.
        self.buffers = [buffer.data for buffer in module.buffers()]

    def __call__(self, function: Callable[..., Outputs], *inputs: Tensor) -> Outputs:
        """``function(*inputs)``; it draws no random numbers and has no other parameters."""
        return _Recomputed.apply(self, function, len(inputs), *inputs, *self.parameters)

    @contextmanager
    def unchanged_buffers(self) -> Iterator[None]:
        """Give the buffers back the values they had before the ``with`` block."""
        values = [buffer.clone() for buffer in self.buffers]
        try:
            yield
        finally:
            torch._foreach_copy_(self.buffers, values)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recompute: Recompute, function: Callable, num_inputs: int, *tensors):
        ctx.recompute, ctx.function, ctx.num_inputs = recompute, function, num_inputs
        device = tensors[0].device.type
        ctx.autocast = dict(
            device_type=device,
            dtype=torch.get_autocast_dtype(device),
            enabled=torch.is_autocast_enabled(device),
            cache_enabled=False,
        )
        inputs = tensors[:num_inputs]
        ctx.save_for_backward(*inputs)
        return function(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_grads):
        inputs = [tensor.detach() for tensor in ctx.saved_tensors]
        needed = ctx.needs_input_grad[3:]
        for tensor, needs_grad in zip(inputs, needed):
            tensor.requires_grad_(needs_grad)
        recompute = ctx.recompute
        with torch.enable_grad(), torch.autocast(**ctx.autocast), recompute.unchanged_buffers():
            outputs = ctx.function(*inputs)
        tensors = (*inputs, *recompute.parameters)
        wanted = [tensor for tensor, needs_grad in zip(tensors, needed) if needs_grad]
        grads = iter(torch.autograd.grad(outputs, wanted, output_grads, allow_unused=True))
        return None, None, None, *(next(grads) if needs_grad else None for needs_grad in needed)
