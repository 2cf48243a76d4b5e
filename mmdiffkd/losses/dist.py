"""DIST: match relations between classes and between samples instead of values."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdiffkd.errors import check_numbers
from mmdiffkd.losses.regression import WeightedDistance


def pearson_distance(x: Tensor, y: Tensor, eps: float = 1e-8) -> Tensor:
    """``1 - correlation`` of the rows of ``x`` and ``y``, mean over rows; a scalar in 0..2.

    A constant row has no correlation; its distance is 1, without a gradient. A centred row is
    divided by at least ``eps``.
    """
    return 1 - F.cosine_similarity(centred(x), centred(y), dim=1, eps=eps).mean()


def centred(x: Tensor) -> Tensor:
    """Rows less their means; a constant row is zeros, without a gradient."""
    difference = x - x.mean(dim=1, keepdim=True)
    with torch.no_grad():
        # What rounding leaves of a constant row points anywhere, and its correlation would have
        # gradients of 1 / eps.
        rounding = 8 * torch.finfo(x.dtype).eps * x.norm(dim=1, keepdim=True)
        constant = difference.norm(dim=1, keepdim=True) <= rounding
    return difference.masked_fill(constant, 0)


class DISTLoss(WeightedDistance):
    """Knowledge Distillation from A Stronger Teacher (Huang et al., 2022), equation 10.

    It compares logits, (N, C) or (N, C, H, W); each pixel is one sample.

    Args:
        beta: Weight of the relation between the classes of a sample.
        gamma: Weight of the relation between the samples of a class.
        tau: Temperature, above 0. The distance is multiplied by ``tau ** 2``.
        loss_weight: Factor of the distance.
    """

    def __init__(
        self, beta: float = 1.0, gamma: float = 1.0, tau: float = 1.0, loss_weight: float = 1.0
    ) -> None:
        super().__init__(loss_weight)
        check_numbers(0, float, beta=beta, gamma=gamma)
        check_numbers(0, float, above=True, tau=tau)
        self.beta, self.gamma, self.tau = beta, gamma, tau

    def distance(self, refined: Tensor, target: Tensor) -> Tensor:
        student, teacher = (
            (logits / self.tau).softmax(dim=1).transpose(0, 1).flatten(1)
            for logits in (refined, target)
        )
        intra_class = pearson_distance(student, teacher)
        inter_class = pearson_distance(student.t(), teacher.t())
        return self.tau**2 * (self.beta * inter_class + self.gamma * intra_class)
