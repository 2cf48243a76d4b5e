"""ShuffleNetV2 for 32x32 images."""

from typing import Sequence

import torch
from torch import Tensor, nn

from mmdiffkd.models.backbones.staged import (
    InitCfg,
    StagedBackbone,
    channel_shuffle,
    conv_bn,
    conv_bn_relu,
)
from mmdiffkd.registry import MODELS

STEM_CHANNELS = 24
CHANNELS = (116, 232, 464)
BLOCKS = (4, 8, 4)
LAST_CHANNELS = 1024


def branch(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """1x1 convolution, 3x3 depthwise, 1x1 convolution."""
    return nn.Sequential(
        conv_bn_relu(in_channels, out_channels),
        conv_bn(out_channels, out_channels, 3, stride, groups=out_channels),
        conv_bn_relu(out_channels, out_channels),
    )


class DownUnit(nn.Module):
    """Halves the map: both halves of the output are computed from the whole input."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.shortcut = nn.Sequential(
            conv_bn(in_channels, in_channels, 3, stride=2, groups=in_channels),
            conv_bn_relu(in_channels, half),
        )
        self.branch = branch(in_channels, half, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H / 2, W / 2), rounded up."""
        return channel_shuffle(torch.cat([self.shortcut(x), self.branch(x)], dim=1), groups=2)


class SplitUnit(nn.Module):
    """Passes the first half of the channels on and works on the second."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = branch(channels // 2, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same shape."""
        passed, worked = x.chunk(2, dim=1)
        return channel_shuffle(torch.cat([passed, self.branch(worked)], dim=1), groups=2)


@MODELS.register_module()
class CIFARShuffleNetV2(StagedBackbone):
    """ShuffleNetV2 1x (Ma et al., ECCV 2018) as the distillation literature has it for CIFAR.

    Against the ImageNet net: a 1x1 stem of stride 1 without max pooling, so that the stride is 8
    in all, not 32.

    Maps for (N, 3, 32, 32): stages 0, 1, 2 give (N, 116, 16, 16), (N, 232, 8, 8) and
    (N, 464, 4, 4); stage 3, a 1x1 convolution with ReLU, gives (N, 1024, 4, 4).
    """

    def __init__(self, out_indices: Sequence[int] = (3,), init_cfg: InitCfg = None) -> None:
        widths_in = (STEM_CHANNELS, *CHANNELS)
        stages = [
            nn.Sequential(DownUnit(width_in, width), *(SplitUnit(width) for _ in range(blocks - 1)))
            for width_in, width, blocks in zip(widths_in, CHANNELS, BLOCKS)
        ]
        stages.append(conv_bn_relu(CHANNELS[-1], LAST_CHANNELS))
        super().__init__(conv_bn_relu(3, STEM_CHANNELS), stages, out_indices, init_cfg)
