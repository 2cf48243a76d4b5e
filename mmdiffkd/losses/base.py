"""What all distances share."""

from torch import Tensor, nn

from mmdiffkd.precision import at_least_float32


class WeightedDistance(nn.Module):
    """A distance between refined and target features, times a weight.

    Subclasses define :meth:`distance`. It is computed in float32 also under autocast.

    Args:
        loss_weight: Factor of the distance (lambda 3 of DiffKD).
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, refined: Tensor, target: Tensor) -> Tensor:
        """Weighted distance.

        Args:
            refined: Student side, (N, C, H, W) or (N, C).
            target: Teacher side, same shape; no gradient flows into it.

        Returns:
            Scalar.
        """
        distance = self.distance(at_least_float32(refined), at_least_float32(target).detach())
        return self.loss_weight * distance

    def distance(self, refined: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError
