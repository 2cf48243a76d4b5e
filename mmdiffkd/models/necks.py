"""Necks that the host libraries do not have."""

from typing import Sequence, Tuple

from torch import Tensor, nn

from mmdiffkd.registry import MODELS


@MODELS.register_module()
class DropoutAveragePooling(nn.Module):
    """Global average pooling and dropout: what stands before the classifier in recipes of timm.

    mmpretrain's ``GlobalAveragePooling`` and ``LinearClsHead`` leave no room for dropout between
    them. This neck has no weights and is plain pooling in evaluation, so what was trained with it
    loads into the host's own model.

    Args:
        drop_rate: Probability for each pooled channel to be zeroed in training, 0 to 1.

    Raises:
        ValueError: If ``drop_rate`` is no probability.
    """

    def __init__(self, drop_rate: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, maps: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        """Pool each map, (N, C, H, W) to (N, C)."""
        return tuple(self.dropout(feature.mean(dim=(2, 3))) for feature in maps)
