"""Frozen convolutions whose weights lie as a CPU's library wants them."""

from typing import Iterable, Optional

import torch
from torch import Tensor, nn


class PackedForward:
    """Takes the place of a frozen convolution's ``forward``; faster on a CPU in float32.

    oneDNN, which computes torch's convolutions on a CPU, brings a weight into a layout of its own
    in each forward. Of a weight that never changes the result can be kept, at the price of a second
    copy in memory. Elsewhere, and in other precisions, the convolution runs as it is.

    Args:
        convolution: A frozen one.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        self.convolution = convolution
        self._packed: Optional[Tensor] = None

    def __call__(self, x: Tensor) -> Tensor:
        """What the convolution makes of (N, C, H, W)."""
        conv = self.convolution
        if not self._applies(x):
            return type(conv).forward(conv, x)
        geometry = (conv.padding, conv.stride, conv.dilation, conv.groups)
        if self._packed is None:
            # The layout is chosen for the first size; other sizes may use it, too.
            weight = conv.weight.detach().to_mkldnn()
            self._packed = torch._C._nn.mkldnn_reorder_conv2d_weight(weight, *geometry, x.shape)
        return torch.ops.mkldnn._convolution_pointwise(
            x, self._packed, conv.bias, *geometry, 'none', [], ''
        )

    def _applies(self, x: Tensor) -> bool:
        return (
            x.device.type == 'cpu'
            and x.dtype is self.convolution.weight.dtype is torch.float32
            and x.dim() == 4
            and x.numel() > 0
            and not torch.is_autocast_enabled('cpu')
            and not torch.is_grad_enabled()
        )


def pack_weights(convolutions: Iterable[nn.Module]) -> None:
    """Have those of frozen convolutions run with packed weights for which that works."""
    for conv in convolutions:
        if type(conv) is nn.Conv2d and conv.padding_mode == 'zeros' and conv.padding != 'same':
            conv.forward = PackedForward(conv)


def unpack_weights(convolutions: Iterable[nn.Module]) -> None:
    """Undo :func:`pack_weights`."""
    for conv in convolutions:
        if isinstance(conv.__dict__.get('forward'), PackedForward):
            del conv.forward
