"""Distances between refined and target features, and the element-wise ones."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmdiffkd.diffusion.precision import at_least_float32
from mmdiffkd.errors import check_numbers


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
        check_numbers(0, float, loss_weight=loss_weight)
        self.loss_weight = loss_weight

    def forward(self, refined: Tensor, target: Tensor) -> Tensor:
        """Weighted distance, a scalar; 0 without rows.

        Args:
            refined: Student side, (N, C, H, W) or (N, C).
            target: Teacher side, same shape; no gradient flows into it.
        """
        if not refined.numel():
            return at_least_float32(refined).sum()
        distance = self.distance(at_least_float32(refined), at_least_float32(target).detach())
        return self.loss_weight * distance

    def distance(self, refined: Tensor, target: Tensor) -> Tensor:
        """The distance without the weight, a scalar; the tensors are float32 or float64."""
        raise NotImplementedError


class MSELoss(WeightedDistance):
    """Mean squared error, the distance of DiffKD for features."""

    def distance(self, refined: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(refined, target)


class L1Loss(WeightedDistance):
    """Mean absolute error."""

    def distance(self, refined: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(refined, target)


class SmoothL1Loss(WeightedDistance):
    """Huber-like error: quadratic below ``beta``, linear above, divided by ``beta``.

    Args:
        beta: Difference at which the two parts meet, above 0.
        loss_weight: Factor of the distance.
    """

    def __init__(self, beta: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        check_numbers(0, float, above=True, beta=beta)
        self.beta = beta

    def distance(self, refined: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(refined, target, beta=self.beta)
