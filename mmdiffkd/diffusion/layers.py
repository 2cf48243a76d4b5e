"""Layers that the noise predictor, the noise adapter and the heads share."""

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that can also be trained on a single value per channel.

    One image whose map is 1x1 (the top of a feature pyramid, a logit vector) has no variance to
    normalise with, and torch refuses it. Such a batch is normalised with the running statistics,
    which it does not update.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        is_single = self.training and x.shape[0] * x.shape[2] * x.shape[3] <= 1
        training = self.training and not is_single
        # Unlike torch's, this one does not count its batches, an operation of its own that a GPU
        # would have to start: the count matters with momentum=None alone.
        statistics = self.running_mean, self.running_var
        return F.batch_norm(
            x, *statistics, self.weight, self.bias, training, self.momentum, self.eps
        )


def conv(in_channels: int, out_channels: int, kernel_size: int = 1) -> nn.Conv2d:
    """Convolution that keeps the size of the map."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


def project(in_channels: int, out_channels: int) -> nn.Module:
    """1x1 convolution, or nothing if the numbers of channels agree."""
    return nn.Identity() if in_channels == out_channels else conv(in_channels, out_channels)


def conv_bn(in_channels: int, out_channels: int, kernel_size: int = 1) -> nn.Sequential:
    """:func:`conv`, then batch norm."""
    return nn.Sequential(conv(in_channels, out_channels, kernel_size), BatchNorm2d(out_channels))


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int = 1) -> nn.Sequential:
    """:func:`conv_bn`, then ReLU."""
    return nn.Sequential(*conv_bn(in_channels, out_channels, kernel_size), nn.ReLU(inplace=True))


class Bottleneck(nn.Module):
    """Residual bottleneck without a ReLU after the sum (reference implementation of DiffKD).

    Args:
        channels: Number of input and output channels.
        reduction: Divisor of ``channels`` that gives the width of the 3x3 convolution.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.block = nn.Sequential(
            *conv_bn_relu(channels, hidden),
            *conv_bn_relu(hidden, hidden, kernel_size=3),
            *conv_bn(hidden, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        # In place: nothing keeps the output of the last batch norm for the backward pass. Under
        # autocast the sum stays in half precision, which the next convolution computes in anyway.
        return self.block(x).add_(x)
