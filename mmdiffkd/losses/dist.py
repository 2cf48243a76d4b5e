"""DIST: match relations between classes and between samples instead of values."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdiffkd.errors import check_numbers
from mmdiffkd.losses.regression import WeightedDistance


def pearson_distance(x: Tensor, y: Tensor, eps: float = 1e-8) -> Tensor:
    """``1 - correlation`` of the rows of ``x`` and ``y``, mean over rows.

    A constant row has no correlation; its distance is 1, without a gradient.

    Args:
        x: Values, (rows, values per row).
        y: Values to correlate with, same shape as ``x``.
        eps: Least norm that a centred row is divided by.

    Returns:
        Scalar in 0..2.
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


def dist(
    student: Tensor, teacher: Tensor, beta: float = 1.0, gamma: float = 1.0, tau: float = 1.0
) -> Tensor:
    """Knowledge Distillation from A Stronger Teacher (Huang et al., 2022), equation 10.

    Args:
        student: Logits, (N, C) or (N, C, H, W); each pixel is one sample.
        teacher: Logits, same shape.
        beta: Weight of the relation between the classes of a sample.
        gamma: Weight of the relation between the samples of a class.
        tau: Temperature. The result is multiplied by ``tau ** 2``.

    Returns:
        Scalar.
    """
    student, teacher = (
        (logits / tau).softmax(dim=1).transpose(0, 1).flatten(1) for logits in (student, teacher)
    )
    intra_class = pearson_distance(student, teacher)
    inter_class = pearson_distance(student.t(), teacher.t())
    return tau**2 * (beta * inter_class + gamma * intra_class)


class DISTLoss(WeightedDistance):
    """The distance :func:`dist` on logits.

    Args:
        beta: Weight of the relation between the classes of a sample.
        gamma: Weight of the relation between the samples of a class.
        tau: Temperature, above 0.
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
        return dist(refined, target, self.beta, self.gamma, self.tau)
