"""Layers that several of the backbones share."""

from torch import Tensor, nn


def conv_bn(
    in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution without bias, padded to keep the map's size at stride 1, then batch norm."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels),
    )


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """:func:`conv_bn` followed by ReLU."""
    return nn.Sequential(
        *conv_bn(in_channels, out_channels, kernel_size, stride, groups), nn.ReLU(inplace=True)
    )


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Deal the channels of each of ``groups`` groups out over all groups (ShuffleNet).

    Args:
        x: (N, C, H, W), C divisible by ``groups``.
        groups: Groups that the channels form now, one after the other.

    Returns:
        (N, C, H, W): first every group's first channel, then every group's second, and so on.
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
