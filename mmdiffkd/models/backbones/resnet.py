"""ResNets and wide ResNets for CIFAR."""

from typing import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmdiffkd.models.backbones.staged import (
    KAIMING_INIT,
    InitCfg,
    StagedBackbone,
    conv_bn,
    conv_bn_relu,
    residual_stages,
)
from mmdiffkd.registry import MODELS


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; ReLU after the sum."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv_bn_relu(in_channels, out_channels, 3, stride),
            conv_bn(out_channels, out_channels, 3),
        )
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = conv_bn(in_channels, out_channels, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        return F.relu(self.residual(x) + self.shortcut(x))


@MODELS.register_module()
class CIFARResNet(StagedBackbone):
    """ResNet of the CIFAR experiments in He et al., "Deep Residual Learning" (CVPR 2016).

    Against the ImageNet ResNet-18: a 3x3 stem of stride 1 without max pooling, and three stages
    instead of four. Against the paper: where a block changes the shape, its shortcut is a 1x1
    convolution with batch norm, as is usual in the distillation literature, not zero padding.

    Maps of stages 0, 1, 2 for (N, 3, 32, 32): (N, channels[1], 32, 32), (N, channels[2], 16, 16),
    (N, channels[3], 8, 8), each after the ReLU of the stage's last block.

    Args:
        depth: Layers with weights, 6 n + 2 for n blocks per stage: 8, 14, 20, 32, 44, 56, 110.
        channels: Widths of the stem and the stages; (32, 64, 128, 256) in the "x4" networks.
    """

    def __init__(
        self,
        depth: int = 20,
        channels: Sequence[int] = (16, 16, 32, 64),
        out_indices: Sequence[int] = (2,),
        init_cfg: InitCfg = KAIMING_INIT,
    ) -> None:
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise ValueError(f'depth must be 6 n + 2 with n from 1, got {depth!r}')
        if len(channels) != 4:
            raise ValueError(f'channels are of the stem and three stages, got {channels!r}')
        stages = residual_stages(BasicBlock, channels, blocks)
        super().__init__(conv_bn_relu(3, channels[0], 3), stages, out_indices, init_cfg)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias that keeps the map's size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def bn_relu(channels: int) -> nn.Sequential:
    """Batch norm, then ReLU."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions; nothing after the sum.

    Where the width changes, the 1x1 shortcut too sees the activated input; elsewhere the shortcut
    is the input as it came.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.activation = bn_relu(in_channels)
        self.residual = nn.Sequential(
            conv3x3(in_channels, out_channels, stride),
            *bn_relu(out_channels),
            conv3x3(out_channels, out_channels),
        )
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        activated = self.activation(x)
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return shortcut + self.residual(activated)


@MODELS.register_module()
class CIFARWideResNet(StagedBackbone):
    """Wide ResNet of Zagoruyko and Komodakis, "Wide Residual Networks" (BMVC 2016), no dropout.

    Against an ImageNet ResNet: a bare 3x3 convolution as stem, three stages of pre-activation
    blocks, and one batch norm with ReLU after the last stage.

    Maps for (N, 3, 32, 32) with w = ``widen_factor``: stages 0, 1, 2 give (N, 16 w, 32, 32),
    (N, 32 w, 16, 16), (N, 64 w, 8, 8), the bare sums of their last blocks; stage 3 is the batch
    norm and ReLU on the last of these.

    Args:
        depth: 6 n + 4 for n blocks per stage: 16, 22, 28, 40.
        widen_factor: Width multiplier w of the stages; the stem keeps 16 channels.
    """

    def __init__(
        self,
        depth: int = 40,
        widen_factor: int = 2,
        out_indices: Sequence[int] = (3,),
        init_cfg: InitCfg = KAIMING_INIT,
    ) -> None:
        blocks, rest = divmod(depth - 4, 6)
        if blocks < 1 or rest:
            raise ValueError(f'depth must be 6 n + 4 with n from 1, got {depth!r}')
        channels = (16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor)
        stages = [*residual_stages(PreActivationBlock, channels, blocks), bn_relu(channels[-1])]
        super().__init__(conv3x3(3, channels[0]), stages, out_indices, init_cfg)
