"""Layers that several of the backbones share."""

from typing import Callable, List, Sequence

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
            kernel_size // 2,
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
    """ShuffleNet's shuffle of (N, C, H, W): all groups' first channels, then the second ones."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def residual_stages(
    block: Callable[..., nn.Module], channels: Sequence[int], number: int
) -> List[nn.Sequential]:
    """Three stages of ``number`` blocks each; the second and the third halve the map.

    Args:
        block: Function of input channels, output channels and stride.
        channels: Widths of the stem and of the stages.
        number: Blocks of each stage.
    """
    return [
        nn.Sequential(block(old, new, stride), *(block(new, new) for _ in range(number - 1)))
        for old, new, stride in zip(channels, channels[1:], (1, 2, 2))
    ]
