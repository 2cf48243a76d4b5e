"""What all distances share."""

import math

from torch import Tensor, nn

from mmdiffkd.diffusion.precision import at_least_float32


class WeightedDistance(nn.Module):
    """A distance between refined and target features, times a weight.

    Subclasses define :meth:`distance`. It is computed in float32 also under autocast.

    Args:
        loss_weight: Factor of the distance (lambda 3 of DiffKD), from 0.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        if not 0 <= loss_weight < math.inf:
            raise ValueError(f'loss_weight must be a finite number from 0, got {loss_weight!r}')
        self.loss_weight = loss_weight

    def forward(self, refined: Tensor, target: Tensor) -> Tensor:
        """Weighted distance.

        Args:
            refined: Student side, (N, C, H, W) or (N, C).
            target: Teacher side, same shape; no gradient flows into it.

        Returns:
            Scalar; 0 for maps without entries.
        """
        if not refined.numel():
            return refined.sum()
        distance = self.distance(at_least_float32(refined), at_least_float32(target).detach())
        return self.loss_weight * distance

    def distance(self, refined: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError
