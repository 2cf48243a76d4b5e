"""Distances between feature maps: channel-wise, Pearson and attention transfer."""

import torch.nn.functional as F
from torch import Tensor

from mmdiffkd.errors import check_numbers
from mmdiffkd.losses.dist import centred
from mmdiffkd.losses.kl_div import softmax_kl
from mmdiffkd.losses.regression import WeightedDistance


def cwd(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """Channel-wise Knowledge Distillation for Dense Prediction (Shu et al., 2021), equation 4.

    Each channel is a distribution over the places of the map.

    Args:
        student: Map, (N, C, H, W).
        teacher: Map, same shape.
        tau: Temperature. The result is multiplied by ``tau ** 2``.

    Returns:
        KL(teacher || student), summed over places, mean over channels and images; scalar.
    """
    student, teacher = (x.flatten(2).transpose(1, 2) for x in (student, teacher))
    return softmax_kl(student, teacher, tau)


def pkd(student: Tensor, teacher: Tensor, eps: float = 1e-6) -> Tensor:
    """PKD: General Distillation Framework for Object Detectors (Cao et al., 2022), equation 3.

    Half the mean squared difference of maps that have mean 0 and standard deviation 1
    per channel over images and places, which is one minus their correlation. A constant channel
    counts as zeros and gets no gradient.

    Args:
        student: Map, (N, C, H, W).
        teacher: Map, same shape.
        eps: Number added to the standard deviation.

    Returns:
        Scalar.
    """
    student, teacher = (standardised(x, eps) for x in (student, teacher))
    return F.mse_loss(student, teacher) / 2


def standardised(x: Tensor, eps: float = 1e-6) -> Tensor:
    """The channels of a map (N, C, H, W) with mean 0 and standard deviation 1, (C, N * H * W)."""
    rows = centred(x.transpose(0, 1).flatten(1))
    std = rows.norm(dim=1, keepdim=True) / max(1, rows.shape[1] - 1) ** 0.5
    return rows / (std + eps)


def normalised(x: Tensor) -> Tensor:
    """A map (N, C, H, W) with mean 0 and standard deviation 1 per channel over the batch."""
    return standardised(x).view_as(x.transpose(0, 1)).transpose(0, 1)


def with_statistics(x: Tensor, other: Tensor) -> Tensor:
    """A map (N, C, H, W) with the mean and the standard deviation of another one's channels."""
    rows = other.transpose(0, 1).flatten(1)
    std = rows.std(dim=1, keepdim=True, correction=min(1, rows.shape[1] - 1))
    moved = standardised(x) * std + rows.mean(dim=1, keepdim=True)
    return moved.view_as(x.transpose(0, 1)).transpose(0, 1)


def attention_transfer(student: Tensor, teacher: Tensor, p: int = 2) -> Tensor:
    """Paying More Attention to Attention (Zagoruyko and Komodakis, 2017), equation 2.

    The attention of an image is the mean over channels of the p-th powers, scaled to length 1.

    Args:
        student: Map, (N, Cs, H, W).
        teacher: Map, (N, Ct, H, W).
        p: Exponent. As in the published code, an odd one keeps the signs of the values.

    Returns:
        Mean squared difference of the attentions; scalar.
    """
    student, teacher = (
        F.normalize(x.pow(p).mean(dim=1).flatten(1), dim=1) for x in (student, teacher)
    )
    return F.mse_loss(student, teacher)


class CWDLoss(WeightedDistance):
    """The distance :func:`cwd` on maps or on the logits of a segmentation model.

    Published settings: ``tau=1`` (MMRazor) or 4 (CIRKD) and ``loss_weight=5`` on segmentation
    logits without a head; ``tau=1`` and ``loss_weight=10`` on the feature pyramid of Faster R-CNN;
    ``normalize=True``, ``tau=1`` and ``loss_weight=1`` on that of RTMDet.

    Args:
        tau: Temperature, above 0.
        loss_weight: Factor of the distance.
        normalize: Whether both maps get mean 0 and standard deviation 1 per channel first.
    """

    def __init__(self, tau: float = 1.0, loss_weight: float = 1.0, normalize: bool = False) -> None:
        super().__init__(loss_weight)
        check_numbers(0, float, above=True, tau=tau)
        self.tau, self.normalize = tau, normalize

    def distance(self, refined: Tensor, target: Tensor) -> Tensor:
        if self.normalize:
            refined, target = (normalised(x) for x in (refined, target))
        return cwd(refined, target, self.tau)


class PKDLoss(WeightedDistance):
    """The distance :func:`pkd` on the maps of a feature pyramid.

    Published settings: ``loss_weight=6`` for Faster R-CNN, on the first four levels, and 10 for
    RetinaNet, RepPoints and FCOS; no head where the channels of student and teacher agree.
    """

    def distance(self, refined: Tensor, target: Tensor) -> Tensor:
        return pkd(refined, target)


class ATLoss(WeightedDistance):
    """The distance :func:`attention_transfer` on maps, which may differ in channels.

    Published setting: ``loss_weight=1000`` per map, on the last maps of the stages of a ResNet.

    Args:
        p: Exponent of the attention, an integer from 1.
        loss_weight: Factor of the distance.
    """

    any_channels = True

    def __init__(self, p: int = 2, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        check_numbers(1, int, p=p)
        self.p = p

    def distance(self, refined: Tensor, target: Tensor) -> Tensor:
        return attention_transfer(refined, target, self.p)
