"""Less memory for more time: what forward does not keep, backward computes again."""

from contextlib import contextmanager
from typing import Any, Callable, Iterator, Tuple, Union

import torch
from torch import Tensor, nn


def recomputed(
    module: nn.Module, function: Callable[..., Any], *inputs: Tensor
) -> Union[Tensor, Tuple[Tensor, ...]]:
    """``function(*inputs)``, of which only the inputs are kept for the backward.

    ``torch.utils.checkpoint`` does the same for any function, at twice the price on small maps: it
    has Python called for every tensor that autograd keeps, in forward, recomputation and backward.

    Args:
        module: Whose parameters the function uses, all of them that it uses. Its buffers change as
            in one run, not two: batch norm counts its batch once.
        function: Returns a tensor or a tuple of tensors and draws no random numbers.
        inputs: Its arguments.
    """
    return _Recomputed.apply(module, function, len(inputs), *inputs, *module.parameters())


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, module, function, num_inputs, *tensors):
        ctx.module, ctx.function, ctx.num_inputs = module, function, num_inputs
        device = tensors[0].device.type
        ctx.autocast = dict(
            device_type=device,
            dtype=torch.get_autocast_dtype(device),
            enabled=torch.is_autocast_enabled(device),
            cache_enabled=False,
        )
        ctx.save_for_backward(*tensors)
        return function(*tensors[:num_inputs])

    @staticmethod
    def backward(ctx, *output_grads):
        inputs = [tensor.detach() for tensor in ctx.saved_tensors[: ctx.num_inputs]]
        tensors = [*inputs, *ctx.module.parameters()]
        needed = ctx.needs_input_grad[3:]
        for tensor, needs_grad in zip(inputs, needed):
            tensor.requires_grad_(needs_grad)
        with torch.enable_grad(), torch.autocast(**ctx.autocast), _unchanged_buffers(ctx.module):
            outputs = ctx.function(*inputs)
        wanted = [tensor for tensor, needs_grad in zip(tensors, needed) if needs_grad]
        grads = iter(torch.autograd.grad(outputs, wanted, output_grads, allow_unused=True))
        return None, None, None, *(next(grads) if needs_grad else None for needs_grad in needed)


@contextmanager
def _unchanged_buffers(module: nn.Module) -> Iterator[None]:
    """Give the buffers back the values they had before the ``with`` block."""
    # `data` hides the change from autograd, which has noted the buffers' versions in forward.
    buffers = [buffer.data for buffer in module.buffers()]
    values = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        torch._foreach_copy_(buffers, values)
