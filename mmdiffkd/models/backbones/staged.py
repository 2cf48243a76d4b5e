"""What the backbones have in common: layers, and a stem and stages with a choice of outputs."""

from typing import Callable, List, Optional, Sequence, Union

from mmengine.model import BaseModule
from torch import Tensor, nn

InitCfg = Optional[Union[dict, Sequence[dict]]]

# Initialisation of the ResNets, wide ResNets and MobileNetV2: convolutions by Kaiming's method
# (fan-out, gain of ReLU), batch norms with weight 1 and bias 0.
KAIMING_INIT = (
    dict(type='Kaiming', layer='Conv2d'),
    dict(type='Constant', val=1, layer='_BatchNorm'),
)


class StagedBackbone(BaseModule):
    """A stem and stages run one after the other; the last output is for global average pooling.

    Args:
        stem: First layers.
        stages: All other layers.
        out_indices: Stages whose outputs are returned, from 0.
        init_cfg: Weight initialisation as in every mmengine module; None leaves torch's, as the
            literature does for the ShuffleNets.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        out_indices: Sequence[int],
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        if not out_indices or not set(out_indices) <= set(range(len(stages))):
            known = f'some of the stages 0 to {len(stages) - 1}'
            raise ValueError(f'out_indices must name {known}, got {out_indices!r}')
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.out_indices = tuple(out_indices)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images (N, 3, H, W) to the maps (N, C, H', W') of the stages in ``out_indices``."""
        x = self.stem(x)
        outputs = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)


def conv_bn(
    in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution without bias, padded to keep the map's size at stride 1, then batch norm."""
    shape = in_channels, out_channels, kernel_size, stride, kernel_size // 2
    convolution = nn.Conv2d(*shape, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


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

    ``block`` is a function of input channels, output channels and stride. ``channels`` are the
    widths of the stem and of the stages.
    """
    return [
        nn.Sequential(block(old, new, stride), *(block(new, new) for _ in range(number - 1)))
        for old, new, stride in zip(channels, channels[1:], (1, 2, 2))
    ]
