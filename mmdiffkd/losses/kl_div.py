"""Kullback-Leibler divergence between the class scores of teacher and student."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdiffkd.errors import check_numbers
from mmdiffkd.losses.regression import WeightedDistance


def softmax_kl(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """KL(teacher || student) of softmax scores over channels (Hinton et al., 2015).

    Args:
        student: Logits, (N, C) or (N, C, H, W); each pixel is one distribution.
        teacher: Logits, same shape.
        tau: Temperature. The result is multiplied by ``tau ** 2`` to keep its gradient's size.

    Returns:
        Sum over classes, mean over images and pixels; scalar.
    """
    return softmax_kl_each(student, teacher, tau).mean()


def softmax_kl_each(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """:func:`softmax_kl` of each distribution, (N,) or (N, H, W)."""
    log_student = F.log_softmax(student / tau, dim=1)
    log_teacher = F.log_softmax(teacher / tau, dim=1)
    divergence = F.kl_div(log_student, log_teacher, reduction='none', log_target=True)
    return tau**2 * divergence.sum(dim=1)


def sigmoid_kl(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """KL(teacher || student) of independent Bernoulli scores, one per element.

    For detectors whose classifier gives one sigmoid score per anchor and class (RetinaNet).

    Args:
        student: Logits, any shape.
        teacher: Logits, same shape.
        tau: Temperature. The result is multiplied by ``tau ** 2`` to keep its gradient's size.

    Returns:
        Mean over all elements; scalar.
    """
    student, teacher = student / tau, teacher / tau
    score = torch.sigmoid(teacher)
    # Cross entropy minus the teacher's own entropy, both from logits to stay finite.
    cross_entropy = F.binary_cross_entropy_with_logits(student, score)
    entropy = F.binary_cross_entropy_with_logits(teacher, score)
    return tau**2 * (cross_entropy - entropy)


class KLDivLoss(WeightedDistance):
    """KL divergence of class scores from logits, ``tau ** 2 * KL(teacher || student)``.

    Args:
        tau: Temperature, above 0.
        use_sigmoid: Whether each element is a Bernoulli distribution of its own
            (:func:`sigmoid_kl`); otherwise the channels of each image or pixel form one softmax
            (:func:`softmax_kl`).
        loss_weight: Factor of the distance.
    """

    def __init__(
        self, tau: float = 1.0, use_sigmoid: bool = False, loss_weight: float = 1.0
    ) -> None:
        super().__init__(loss_weight)
        check_numbers(0, float, above=True, tau=tau)
        self.tau = tau
        self.divergence = sigmoid_kl if use_sigmoid else softmax_kl

    def distance(self, refined: Tensor, target: Tensor) -> Tensor:
        return self.divergence(refined, target, self.tau)
