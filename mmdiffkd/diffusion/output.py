"""What a head returns."""

from dataclasses import dataclass, field
from typing import Dict

from torch import Tensor


@dataclass(frozen=True)
class HeadOutput:
    """The tensors that a pair compares, with the losses and diagnostics of the head itself.

    Attributes:
        refined: Student feature ready for the distance, (N, D, H, W), at least float32.
        target: Teacher feature to compare it with, same shape, detached.
        aligned: Student feature after its projection, before any refinement, same shape, detached.
        losses: Name to weighted loss of the head, each a scalar. A pair adds ``loss_<name>_<pair>``
            to the training loss, summed over its maps.
        stats: Name to detached diagnostic, any shape. A pair logs the mean over its maps as
            ``<name>_<pair>``.
    """

    refined: Tensor
    target: Tensor
    aligned: Tensor
    losses: Dict[str, Tensor] = field(default_factory=dict)
    stats: Dict[str, Tensor] = field(default_factory=dict)

    def detach(self) -> 'HeadOutput':
        """The same output, with every tensor detached from the graph."""
        return HeadOutput(
            self.refined.detach(),
            self.target.detach(),
            self.aligned.detach(),
            {name: loss.detach() for name, loss in self.losses.items()},
            {name: value.detach() for name, value in self.stats.items()},
        )
