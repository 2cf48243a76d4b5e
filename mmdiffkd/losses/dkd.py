"""DKD: the class of an image apart from the other classes."""

from typing import Any, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdiffkd.diffusion.precision import at_least_float32
from mmdiffkd.errors import ConfigError, check_numbers
from mmdiffkd.losses.kl_div import softmax_kl_each
from mmdiffkd.losses.regression import WeightedDistance


def dkd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    tau: float = 4.0,
) -> Tensor:
    """Decoupled Knowledge Distillation (Zhao et al., 2022), equation 7.

    One term compares the score of the image's class with the sum of all others, the other term
    the scores among the others.

    Args:
        student: Logits, (N, C).
        teacher: Logits, same shape.
        labels: Classes, (N,), or their shares, (N, C), as mixup and CutMix yield them. With these
            the distance is its sum over the two largest shares of an image, multiplied by them.
        alpha: Weight of the image's class against the others.
        beta: Weight of the relations among the others.
        tau: Temperature. The result is multiplied by ``tau ** 2``.

    Returns:
        Mean over images; scalar.
    """
    if labels.ndim == 1:
        shares, targets = torch.ones_like(student[:, :1]), labels[:, None]
    else:
        shares, targets = labels.topk(min(2, labels.shape[1]))
    # A mask instead of an index, whose length a GPU would have to tell.
    mask = F.one_hot(targets, student.shape[1]).bool().transpose(1, 2)
    own, others = zip(*(_split(logits / tau, targets, mask) for logits in (student, teacher)))
    divergence = alpha * softmax_kl_each(*own) + beta * softmax_kl_each(*others)
    return tau**2 * (shares * divergence).sum() / max(1, len(student))


def _split(logits: Tensor, targets: Tensor, mask: Tensor) -> Tuple[Tensor, Tensor]:
    """Scores of K classes of each image against all others, and scores of the others.

    Args:
        logits: Scores, (N, C).
        targets: The K classes, (N, K).
        mask: Where they are, (N, C, K).

    Returns:
        Two scores for each of the K classes, (N, 2, K), and the others, (N, C, K), in which the
        class itself is as good as impossible.
    """
    others = logits[..., None].masked_fill(mask, torch.finfo(logits.dtype).min)
    return torch.stack([logits.gather(1, targets), others.logsumexp(dim=1)], dim=1), others


class DKDLoss(WeightedDistance):
    """The distance :func:`dkd` on the logits of a classifier and the classes of the batch.

    Published settings: ``alpha=1``, ``beta=8``, ``tau=4`` on CIFAR-100 (``beta=6`` for WRN-40-1, 2
    for ResNet-20), with a weight that grows from 0 during 20 epochs; ``beta=0.5``, ``tau=1`` on
    ImageNet.

    Args:
        alpha: Weight of the image's class against the others.
        beta: Weight of the relations among the others.
        tau: Temperature, above 0.
        loss_weight: Factor of the distance.
    """

    def __init__(
        self, alpha: float = 1.0, beta: float = 8.0, tau: float = 4.0, loss_weight: float = 1.0
    ) -> None:
        super().__init__(loss_weight)
        check_numbers(0, float, alpha=alpha, beta=beta)
        check_numbers(0, float, above=True, tau=tau)
        self.alpha, self.beta, self.tau = alpha, beta, tau

    def forward(self, refined: Tensor, target: Tensor, context: Any) -> Tensor:
        """Weighted distance, a scalar.

        Args:
            refined: Logits of the student, (N, C) or (N, C, 1, 1).
            target: Logits of the teacher, same shape; no gradient flows into them.
            context: :class:`PairContext` with the labels of the batch.
        """
        if refined.shape[2:].numel() > 1:
            size = 'x'.join(map(str, refined.shape[2:]))
            raise ConfigError(f'DKDLoss: the logits must be vectors (N, C), got maps of {size}')
        logits = (at_least_float32(x).flatten(1) for x in (refined, target.detach()))
        labels = context.labels().to(refined.device)
        return self.loss_weight * dkd(*logits, labels, self.alpha, self.beta, self.tau)
