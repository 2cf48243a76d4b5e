"""What a head takes and returns."""

from dataclasses import dataclass, field
from typing import Dict, Optional

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class HeadOutput:
    """The tensors that a pair compares, with the losses and diagnostics of the head itself.

    Attributes:
        refined: Student feature ready for the distance, (N, D, H, W), at least float32.
        target: Teacher feature to compare it with, same shape, detached. Without a head the number
            of channels may differ, if the loss allows it.
        aligned: Student feature after its projection, before any refinement, same shape, detached.
        losses: Name to weighted loss of the head, each a scalar. A pair adds ``loss_<name>_<pair>``
            to the training loss, summed over its maps.
        stats: Name to detached diagnostic, any shape. A pair logs the mean over its maps as
            ``<name>_<pair>``.
        distance: The distance, a scalar with its weight, if the head computes it itself. Its pair
            has no ``loss``.
    """

    refined: Tensor
    target: Tensor
    aligned: Tensor
    losses: Dict[str, Tensor] = field(default_factory=dict)
    stats: Dict[str, Tensor] = field(default_factory=dict)
    distance: Optional[Tensor] = None

    def scalars(self) -> Dict[str, Tensor]:
        """The mean of each statistic, and the mean squared distances to the target.

        A student feature of another shape, which a distance of attention maps allows, has none.
        """
        features = dict(dist_before=self.aligned, dist_after=self.refined)
        distances = {
            name: F.mse_loss(feature, self.target)
            for name, feature in features.items()
            if feature.shape == self.target.shape
        }
        return {**distances, **{name: value.mean() for name, value in self.stats.items()}}

    def detach(self) -> 'HeadOutput':
        """The same output, with every tensor detached from the graph."""
        return HeadOutput(
            self.refined.detach(),
            self.target.detach(),
            self.aligned.detach(),
            {name: loss.detach() for name, loss in self.losses.items()},
            {name: value.detach() for name, value in self.stats.items()},
            None if self.distance is None else self.distance.detach(),
        )


def check_maps(*features: Tensor) -> None:
    """Raise :class:`ValueError` unless features are maps (N, C, H, W)."""
    for feature in features:
        if feature.ndim != 4:
            raise ValueError(
                f'a head takes maps (N, C, H, W), got a tensor of shape {tuple(feature.shape)}; '
                f'vectors x of shape (N, C) are maps x[:, :, None, None]'
            )
