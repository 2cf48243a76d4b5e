"""ShuffleNets for 32x32 images."""

from typing import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdiffkd.models.backbones.staged import (
    InitCfg,
    StagedBackbone,
    channel_shuffle,
    conv_bn,
    conv_bn_relu,
)
from mmdiffkd.registry import MODELS


class ShuffleUnit(nn.Module):
    """Grouped 1x1 convolution, shuffle, 3x3 depthwise, grouped 1x1 convolution.

    A unit that changes the width has a stride of 2 and appends the average-pooled input. The first
    convolution and the shuffle have ``first_groups`` groups.
    """

    def __init__(self, in_channels: int, out_channels: int, first_groups: int = 3) -> None:
        super().__init__()
        self.downsamples = in_channels != out_channels
        stride = 2 if self.downsamples else 1
        added = out_channels - in_channels if self.downsamples else out_channels
        hidden = added // 4
        self.groups = first_groups
        self.compress = conv_bn_relu(in_channels, hidden, groups=first_groups)
        self.expand = nn.Sequential(
            conv_bn_relu(hidden, hidden, 3, stride, groups=hidden),
            conv_bn(hidden, added, groups=3),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        residual = self.expand(channel_shuffle(self.compress(x), self.groups))
        if self.downsamples:
            pooled = F.avg_pool2d(x, kernel_size=3, stride=2, padding=1)
            return F.relu(torch.cat([residual, pooled], dim=1))
        return F.relu(residual + x)


@MODELS.register_module()
class CIFARShuffleNetV1(StagedBackbone):
    """ShuffleNet, 3 groups (Zhang et al., CVPR 2018), as the distillation literature has it.

    Against the ImageNet net: a 1x1 stem of stride 1 without max pooling (stride 8 in all, not
    32); ReLU also after the depthwise convolution; and in the units of stride 2 the hidden width
    is a quarter of the channels the unit adds, not of all it gives.

    Maps of stages 0, 1, 2 for (N, 3, 32, 32): (N, 240, 16, 16), (N, 480, 8, 8), (N, 960, 4, 4),
    each after the ReLU of the stage's last unit.
    """

    def __init__(self, out_indices: Sequence[int] = (2,), init_cfg: InitCfg = None) -> None:
        widths = (24, 240, 480, 960)
        stages = []
        # 24 channels are too few to be worth grouping (section 3.2 of the paper).
        for width_in, width, blocks, groups in zip(widths, widths[1:], (4, 8, 4), (1, 3, 3)):
            first = ShuffleUnit(width_in, width, groups)
            rest = [ShuffleUnit(width, width) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(first, *rest))
        super().__init__(conv_bn_relu(3, 24), stages, out_indices, init_cfg)


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
    """ShuffleNetV2 1x (Ma et al., ECCV 2018) as the distillation literature has it.

    Against the ImageNet net: a 1x1 stem of stride 1 without max pooling (stride 8 in all, not 32).

    Maps for (N, 3, 32, 32): stages 0, 1, 2 give (N, 116, 16, 16), (N, 232, 8, 8) and
    (N, 464, 4, 4); stage 3, a 1x1 convolution with ReLU, gives (N, 1024, 4, 4).
    """

    def __init__(self, out_indices: Sequence[int] = (3,), init_cfg: InitCfg = None) -> None:
        widths = (24, 116, 232, 464)
        stages = [
            nn.Sequential(DownUnit(width_in, width), *(SplitUnit(width) for _ in range(blocks - 1)))
            for width_in, width, blocks in zip(widths, widths[1:], (4, 8, 4))
        ]
        stages.append(conv_bn_relu(464, 1024))
        super().__init__(conv_bn_relu(3, 24), stages, out_indices, init_cfg)
