"""Layers that the noise predictor, the noise adapter and the heads share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdiffkd.diffusion.normalized_conv import normalized_conv_add


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that also trains on a single value per channel, or on none.

    One image whose map is 1x1 (the top of a feature pyramid, a logit vector) has no variance to
    normalise with, and torch refuses it, as it does a batch of no image. Such a batch uses the
    running statistics and leaves them as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] <= 1:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


class PointwiseConv2d(nn.Conv2d):
    """1x1 convolution of channels-last maps.

    A small map (the upper levels of a pyramid) is one matrix product, which a CPU starts faster
    than a convolution: 0.19 instead of 0.31 ms forward and backward on 5x5, 256 to 64 channels.
    """

    MAX_PIXELS = 128

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        # Compiled code is to serve maps of any size.
        if torch.compiler.is_compiling() or x.shape[2] * x.shape[3] > self.MAX_PIXELS:
            return super().forward(x)
        pixels = x.permute(0, 2, 3, 1)
        return F.linear(pixels, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def conv(in_channels: int, out_channels: int, kernel_size: int = 1) -> nn.Conv2d:
    """Convolution that keeps the map's size."""
    if kernel_size == 1:
        return PointwiseConv2d(in_channels, out_channels)
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


def conv_bn(in_channels: int, out_channels: int, kernel_size: int = 1) -> nn.Sequential:
    """:func:`conv`, then batch norm."""
    return nn.Sequential(conv(in_channels, out_channels, kernel_size), BatchNorm2d(out_channels))


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int = 1) -> nn.Sequential:
    """:func:`conv_bn` followed by ReLU."""
    return nn.Sequential(*conv_bn(in_channels, out_channels, kernel_size), nn.ReLU(inplace=True))


class Bottleneck(nn.Module):
    """Residual bottleneck without a ReLU after the sum (reference implementation of DiffKD).

    Args:
        channels: Width of input and output.
        reduction: The 3x3 convolution works in ``channels // reduction`` channels.

    Maps (N, channels, H, W) to the same shape.
    """

    # Of a map whose last convolution and batch norm are one operation.
    MIN_PIXELS = 1024

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.block = nn.Sequential(
            *conv_bn_relu(channels, hidden),
            *conv_bn_relu(hidden, hidden, kernel_size=3),
            *conv_bn(hidden, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        *inner, conv, norm = self.block
        hidden = x
        for module in inner:
            hidden = module(hidden)
        if self._joins_norm(x, norm):
            return normalized_conv_add(x, hidden, conv, norm)
        # In place: the batch norm at the end of the block does not keep its output. Under autocast
        # the sum stays in half precision, as what the next convolution would make of it anyway.
        return norm(conv(hidden)).add_(x)

    def _joins_norm(self, x: Tensor, norm: nn.Module) -> bool:
        # Not one that stands in for it, such as SyncBatchNorm with the statistics of all GPUs.
        # On small maps the many small operations take longer than they save. On a GPU it was not
        # measured; its batch norm does not read memory as often as a CPU's.
        return (
            isinstance(norm, BatchNorm2d)
            and not torch.compiler.is_compiling()
            and self.training
            and len(x) > 0
            and x.device.type == 'cpu'
            and not torch.is_autocast_enabled('cpu')
            and x.shape[2] * x.shape[3] >= self.MIN_PIXELS
        )
