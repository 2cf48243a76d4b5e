"""Element-wise distances, mean over all elements."""

import math

import torch.nn.functional as F
from torch import Tensor

from mmdiffkd.losses.base import WeightedDistance


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
        beta: Where the two parts meet, above 0.
        loss_weight: Factor of the distance.
    """

    def __init__(self, beta: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        if not 0 < beta < math.inf:
            raise ValueError(
                f'beta must be a finite number above 0, got {beta!r}; for beta = 0 use L1Loss'
            )
        self.beta = beta

    def distance(self, refined: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(refined, target, beta=self.beta)
