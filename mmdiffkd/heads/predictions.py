"""CrossKD and LD: predictions of dense detectors, compared with those of the teacher's head."""

from contextlib import nullcontext
from typing import Any, ContextManager, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdiffkd.diffusion import HeadOutput
from mmdiffkd.diffusion.layers import project
from mmdiffkd.diffusion.output import check_maps
from mmdiffkd.diffusion.precision import at_least_float32
from mmdiffkd.errors import check_numbers
from mmdiffkd.heads.features import boxes_of
from mmdiffkd.losses.maps import standardised


class DenseHead:
    """The dense head of a detector of mmdet; its branches are ``'cls'`` and ``'reg'``."""

    def __init__(self, model: nn.Module) -> None:
        self.head = head = getattr(model, 'bbox_head', None)
        if not hasattr(head, 'cls_convs') or not hasattr(head.cls_convs[0], 'activate'):
            raise ValueError(
                f'it needs a teacher whose bbox_head has cls_convs, as RetinaHead, GFLHead, '
                f'FCOSHead and ATSSHead, got {type(model).__name__} with {type(head).__name__}'
            )
        self.bins = getattr(head, 'reg_max', -1) + 1

    def convs(self, branch: str) -> Sequence[nn.Module]:
        """The convolutions of a branch; a head may have one for both."""
        return getattr(self.head, f'{branch}_convs', self.head.cls_convs)

    def precision(self) -> ContextManager:
        """Autocast if the weights are in half precision."""
        weight = next(self.head.cls_convs.parameters())
        half = weight.dtype.itemsize < 4
        return torch.autocast(weight.device.type, weight.dtype) if half else nullcontext()

    def until(self, branch: str, feature: Tensor, index: Optional[int]) -> Tensor:
        """What the first ``index`` convolutions make of a map, before the last activation."""
        *convs, last = self.convs(branch)[:index]
        for conv in convs:
            feature = conv(feature)
        return last(feature, activate=False)

    def after(self, branch: str, feature: Tensor, index: Optional[int], level: int) -> Tensor:
        """The prediction from what :meth:`until` returns; boxes are not decoded."""
        convs = self.convs(branch)
        index = len(convs) if index is None else index
        feature = convs[index - 1].activate(feature)
        for conv in convs[index:]:
            feature = conv(feature)
        names = [name for name, _ in self.head.named_children() if not name.startswith('loss')]
        name = next(name for name in names if name.endswith(f'_{branch}'))
        prediction = getattr(self.head, name)(feature)
        if branch == 'reg' and hasattr(self.head, 'scales'):
            prediction = self.head.scales[level](prediction)
        return at_least_float32(prediction)

    def boxes(self, prediction: Tensor) -> Tensor:
        """Boxes (M, 4) from (N, A * 4, H, W), in units and from the centre of their anchors."""
        rows, coder = rows_of(prediction, 4), self.head.bbox_coder
        if hasattr(coder, 'stds'):
            rows = rows * rows.new_tensor(coder.stds) + rows.new_tensor(coder.means)
            # mmdet limits the sides of a box to 1000 / 16 times those of its anchor.
            halves = rows[:, 2:].exp().clamp(16 / 1000, 1000 / 16) / 2
            return torch.cat([rows[:, :2] - halves, rows[:, :2] + halves], dim=1)
        rows = rows.clamp(min=0) if getattr(self.head, 'norm_on_bbox', False) else rows.exp()
        return torch.cat([-rows[:, :2], rows[:, 2:]], dim=1)


class CrossKDHead(nn.Module):
    """CrossKD: Cross-Head Knowledge Distillation for Object Detection (Wang et al., 2024).

    A feature of a branch of the student's dense head goes through the rest of the teacher's head,
    whose predictions are compared: class scores by the quality focal loss (beta 1); boxes, weighted
    by the teacher's best class score, by the KL divergence of their distributions (GFL) or else by
    their generalised overlap. Each branch is a pair with ``teacher='neck'`` and with
    ``student='bbox_head.cls_convs.2.activate:input'``, or ``reg_convs`` for boxes.

    The published code divides by numbers of all levels; a head knows one level. Scores and overlaps
    are summed over places and divided by 9 times the number of annotated boxes, about as many
    anchors as ATSS assigns. Divergences are a mean over the level times 3/4, 3/16, ..., its share
    in the places of a pyramid. Published settings: the defaults; for FCOS ``index=2`` and
    ``loss_weight=0.4`` (scores) and 0.75 (boxes).

    Args:
        student_channels: Number Cs of channels of the student's feature.
        teacher_model: Detector of mmdet, which is not trained.
        branch: ``'cls'`` for class scores, ``'reg'`` for boxes.
        index: Number of convolutions that the student's feature has passed; None if it is the
            prediction itself.
        loss_weight: Factor of the distance; None is 4 for distributions and otherwise 1.
        tau: Temperature of the divergence, which is multiplied by ``tau ** 2``.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_model: nn.Module,
        branch: str = 'cls',
        index: Optional[int] = 3,
        loss_weight: Optional[float] = None,
        tau: float = 1.0,
    ) -> None:
        super().__init__()
        dense = DenseHead(teacher_model)
        if branch not in ('cls', 'reg'):
            raise ValueError(f"branch must be 'cls' or 'reg', got {branch!r}")
        if loss_weight is None:
            loss_weight = 4.0 if branch == 'reg' and dense.bins else 1.0
        check_numbers(0, float, loss_weight=loss_weight, tau=tau)
        self.branch, self.index, self.loss_weight, self.tau = branch, index, loss_weight, tau
        if index is not None:
            check_numbers(1, int, index=index)
            self.align = project(student_channels, dense.convs(branch)[index - 1].out_channels)
        # In a function the teacher is neither a submodule nor copied with this one.
        self.teacher = lambda: dense

    def forward(self, student_feat: Tensor, teacher_feat: Tensor, context: Any) -> HeadOutput:
        """Compare predictions from the student's feature, before its activation, and the neck's.

        ``context`` has the boxes of the batch; ``refined`` and ``target`` are the predictions.
        """
        check_maps(student_feat, teacher_feat)
        dense, branch, level = self.teacher(), self.branch, context.level
        with dense.precision():
            with torch.no_grad():
                hidden, hidden_cls = (
                    dense.until(name, teacher_feat, self.index) for name in (branch, 'cls')
                )
                target = dense.after(branch, hidden, self.index, level)
                scores = dense.after('cls', hidden_cls, self.index, level)
            predicted = at_least_float32(student_feat)
            if self.index is not None:
                aligned = like_teacher(self.align(student_feat), hidden)
                predicted = dense.after(branch, aligned, self.index, level)
        anchors = max(1, 9 * sum(map(len, boxes_of(context.data_samples, 'CrossKDHead'))))
        weights = rows_of(scores, dense.head.cls_out_channels).amax(dim=1).sigmoid()
        if branch == 'cls':
            distance = quality_focal(predicted, target).sum() / anchors
        elif dense.bins:
            divergence = weights * side_kl(predicted, target, dense.bins, self.tau)
            distance = divergence.sum() / weights.sum() * 0.75 / 4**level
        else:
            overlaps = giou_loss(dense.boxes(predicted), dense.boxes(target))
            distance = (weights * overlaps).sum() / anchors
        distance = self.loss_weight * distance
        return HeadOutput(predicted, target, predicted.detach(), distance=distance)


class LDHead(CrossKDHead):
    """Localization Distillation for Dense Object Detection (Zheng et al., 2022), equation 3.

    The KL divergence of the distributions that GFL predicts for the sides of boxes, weighted and
    averaged as in :class:`CrossKDHead`. The published code sums its mean over the values of a
    distribution over the places that a box is assigned to, weighted by the student's score. The
    pair is ``dict(student='bbox_head[1]', teacher='neck', head=dict(type='LDHead'))``.

    Args:
        teacher_model: GFL detector of mmdet, which is not trained.
        tau: Temperature. The distance is multiplied by ``tau ** 2``.
        loss_weight: Factor of the distance.
    """

    def __init__(
        self, teacher_model: nn.Module, tau: float = 10.0, loss_weight: float = 0.25
    ) -> None:
        super().__init__(0, teacher_model, 'reg', None, loss_weight, tau)
        if not self.teacher().bins:
            raise ValueError('it needs a teacher that predicts distributions of boxes, as GFL')


def rows_of(prediction: Tensor, width: int) -> Tensor:
    """(N, A * width, H, W) as (N * H * W * A, width)."""
    return prediction.permute(0, 2, 3, 1).reshape(-1, width)


def like_teacher(student: Tensor, teacher: Tensor) -> Tensor:
    """The student's map with the mean and the standard deviation of the teacher's channels."""
    rows = at_least_float32(teacher).transpose(0, 1).flatten(1)
    std = rows.std(dim=1, keepdim=True, correction=min(1, rows.shape[1] - 1))
    moved = standardised(at_least_float32(student)) * std + rows.mean(dim=1, keepdim=True)
    return moved.view_as(student.transpose(0, 1)).transpose(0, 1)


def quality_focal(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross entropy of sigmoid scores times their difference, from logits; for each element."""
    scores = teacher.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(student, scores, reduction='none')
    return entropy * (student.sigmoid() - scores).abs()


def giou_loss(boxes: Tensor, targets: Tensor, eps: float = 1e-7) -> Tensor:
    """One minus the generalised overlap (Rezatofighi et al., 2019) of boxes (M, 4); (M,)."""
    starts, ends = (torch.stack([boxes[:, i:j], targets[:, i:j]]) for i, j in ((0, 2), (2, 4)))
    overlap = (ends.amin(dim=0) - starts.amax(dim=0)).clamp(min=0).prod(dim=1)
    union = (ends - starts).prod(dim=2).sum(dim=0) - overlap
    hull = (ends.amax(dim=0) - starts.amin(dim=0)).prod(dim=1)
    return 1 - overlap / (union + eps) + (hull - union) / (hull + eps)


def side_kl(student: Tensor, teacher: Tensor, bins: int, tau: float = 1.0) -> Tensor:
    """``tau ** 2 * KL(teacher || student)`` of distances, mean over a box's four sides; (M,).

    Each side is distributed over ``bins`` values in (N, 4 * bins, H, W).
    """
    student, teacher = (rows_of(x / tau, bins).log_softmax(dim=1) for x in (student, teacher))
    divergence = (teacher.exp() * (teacher - student)).sum(dim=1)
    return tau**2 * divergence.view(-1, 4).mean(dim=1)
