"""ShuffleNet for 32x32 images."""

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

GROUPS = 3
STEM_CHANNELS = 24
CHANNELS = (240, 480, 960)
BLOCKS = (4, 8, 4)


class ShuffleUnit(nn.Module):
    """Grouped 1x1 convolution, shuffle, 3x3 depthwise, grouped 1x1 convolution.

    A unit that changes the width has a stride of 2 and appends the average-pooled input. The first
    convolution and the shuffle have ``first_groups`` groups.
    """

    def __init__(self, in_channels: int, out_channels: int, first_groups: int = GROUPS) -> None:
        super().__init__()
        self.downsamples = in_channels != out_channels
        stride = 2 if self.downsamples else 1
        added = out_channels - in_channels if self.downsamples else out_channels
        hidden = added // 4
        self.groups = first_groups
        self.compress = conv_bn_relu(in_channels, hidden, groups=first_groups)
        self.expand = nn.Sequential(
            conv_bn_relu(hidden, hidden, 3, stride, groups=hidden),
            conv_bn(hidden, added, groups=GROUPS),
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
        stages = []
        width_in = STEM_CHANNELS
        for width, blocks in zip(CHANNELS, BLOCKS):
            # 24 channels are too few to be worth grouping (section 3.2 of the paper).
            first_groups = 1 if width_in == STEM_CHANNELS else GROUPS
            stages.append(
                nn.Sequential(
                    ShuffleUnit(width_in, width, first_groups),
                    *(ShuffleUnit(width, width) for _ in range(blocks - 1)),
                )
            )
            width_in = width
        super().__init__(conv_bn_relu(3, STEM_CHANNELS), stages, out_indices, init_cfg)
