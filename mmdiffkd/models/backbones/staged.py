"""What the backbones have in common: a stem, stages, and a choice of which outputs to return."""

from typing import Optional, Sequence, Union

from mmengine.model import BaseModule
from torch import Tensor, nn

InitCfg = Optional[Union[dict, Sequence[dict]]]

# Of the ResNets, the wide ResNets and MobileNetV2: fan-out mode, gain of ReLU; norms are identity.
KAIMING_INIT = (
    dict(type='Kaiming', layer='Conv2d'),
    dict(type='Constant', val=1, layer='_BatchNorm'),
)


class StagedBackbone(BaseModule):
    """A stem and stages run one after the other.

    Args:
        stem: First layers.
        stages: The rest; the last one's output is the map for global average pooling.
        out_indices: Stages whose outputs are returned, from 0.
        init_cfg: Weight initialisation as in every mmengine module; None leaves torch's.
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
            raise ValueError(
                f'out_indices must name some of the stages 0 to {len(stages) - 1}, '
                f'got {out_indices!r}'
            )
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
