"""MobileNetV2 for 32x32 images."""

from typing import Sequence

from torch import Tensor, nn

from mmdiffkd.models.backbones.staged import (
    KAIMING_INIT,
    InitCfg,
    StagedBackbone,
    conv_bn,
    conv_bn_relu,
)
from mmdiffkd.registry import MODELS

# Expansion, channels at full width, blocks, stride of the first block.
STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip


class InvertedResidual(nn.Module):
    """1x1 to a wider map, 3x3 depthwise, 1x1 back without activation; a sum where shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        # Unlike in the paper, the first 1x1 convolution is also there if nothing expands.
        self.residual = nn.Sequential(
            conv_bn_relu(in_channels, hidden),
            conv_bn_relu(hidden, hidden, 3, stride, groups=hidden),
            conv_bn(hidden, out_channels),
        )
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        residual = self.residual(x)
        return x + residual if self.adds_input else residual


@MODELS.register_module()
class CIFARMobileNetV2(StagedBackbone):
    """MobileNetV2 (Sandler et al., CVPR 2018) as the distillation literature cuts it for CIFAR.

    Against the ImageNet net: stride 1 in the stage of 24 channels (16 in all, not 32), ReLU
    instead of ReLU6, widths cut to whole numbers instead of rounded to multiples of 8, and a 1x1
    convolution also in the first block, which does not expand. The stem keeps its stride of 2.

    Maps for (N, 3, 32, 32) with w = ``widen_factor``: stages 0 to 6 give 16 w, 24 w (16x16),
    32 w (8x8), 64 w, 96 w (4x4), 160 w and 320 w channels (2x2) without a ReLU; stage 7, a 1x1
    convolution with ReLU, gives (N, 1280, 2, 2), or 1280 w channels where w is above 1.

    Args:
        widen_factor: Width multiplier w; 0.5 in the literature.
    """

    def __init__(
        self,
        widen_factor: float = 0.5,
        out_indices: Sequence[int] = (7,),
        init_cfg: InitCfg = KAIMING_INIT,
    ) -> None:
        stem_width = width_in = int(32 * widen_factor)
        stages = []
        for expansion, full_width, blocks, stride in STAGES:
            width = int(full_width * widen_factor)
            first = InvertedResidual(width_in, width, expansion, stride)
            rest = [InvertedResidual(width, width, expansion, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(first, *rest))
            width_in = width
        stages.append(conv_bn_relu(width_in, int(1280 * max(1.0, widen_factor))))
        super().__init__(conv_bn_relu(3, stem_width, 3, stride=2), stages, out_indices, init_cfg)
