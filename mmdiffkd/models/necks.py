"""Necks that the host libraries do not have."""

from typing import Sequence, Tuple

from torch import Tensor, nn

from mmdiffkd.registry import MODELS


@MODELS.register_module()
class DropoutAveragePooling(nn.Module):
    """Global average pooling and dropout: what stands before the classifier in recipes of timm.

    It has no weights and is plain pooling in evaluation, so what was trained with it loads into a
    model of mmpretrain with ``GlobalAveragePooling``.

    Args:
        drop_rate: Probability, 0 to 1, for each pooled channel to be zeroed in training.
    """

    def __init__(self, drop_rate: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, maps: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        """Pool each map, (N, C, H, W) to (N, C)."""
        return tuple(self.dropout(feature.mean(dim=(2, 3))) for feature in maps)
