"""Kullback-Leibler divergence between the class scores of teacher and student."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdiffkd.errors import check_numbers
from mmdiffkd.losses.regression import WeightedDistance


def softmax_kl_each(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """``tau ** 2 * KL(teacher || student)`` of softmax scores over channels (Hinton et al., 2015).

    Logits (N, C) or (N, C, H, W) give the divergence of each distribution, (N,) or (N, H, W). Its
    factor keeps the size of the gradient.
    """
    log_student = F.log_softmax(student / tau, dim=1)
    log_teacher = F.log_softmax(teacher / tau, dim=1)
    divergence = F.kl_div(log_student, log_teacher, reduction='none', log_target=True)
    return tau**2 * divergence.sum(dim=1)


class KLDivLoss(WeightedDistance):
    """KL divergence of class scores from logits, ``tau ** 2 * KL(teacher || student)``.

    It is the sum over classes, and the mean over images and pixels.

    Args:
        tau: Temperature, above 0.
        use_sigmoid: Whether each element is a Bernoulli distribution of its own, as for detectors
            whose classifier gives one sigmoid score per anchor and class (RetinaNet), with the mean
            over all elements; otherwise the channels of each image or pixel form one softmax.
        loss_weight: Factor of the distance.
    """

    def __init__(
        self, tau: float = 1.0, use_sigmoid: bool = False, loss_weight: float = 1.0
    ) -> None:
        super().__init__(loss_weight)
        check_numbers(0, float, above=True, tau=tau)
        self.tau, self.use_sigmoid = tau, use_sigmoid

    def distance(self, refined: Tensor, target: Tensor) -> Tensor:
        if not self.use_sigmoid:
            return softmax_kl_each(refined, target, self.tau).mean()
        student, teacher = refined / self.tau, target / self.tau
        score = torch.sigmoid(teacher)
        # Cross entropy minus the teacher's own entropy, both from logits to stay finite.
        cross_entropy = F.binary_cross_entropy_with_logits(student, score)
        entropy = F.binary_cross_entropy_with_logits(teacher, score)
        return self.tau**2 * (cross_entropy - entropy)
