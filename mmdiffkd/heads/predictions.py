"""CrossKD and LD: predictions of dense detectors, compared with those of the teacher's head."""

from contextlib import nullcontext
from typing import Any, ContextManager, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdiffkd.diffusion import HeadOutput
from mmdiffkd.diffusion.layers import project
from mmdiffkd.diffusion.output import check_maps
from mmdiffkd.diffusion.precision import at_least_float32
from mmdiffkd.errors import check_numbers
from mmdiffkd.losses.kl_div import softmax_kl_each
from mmdiffkd.losses.maps import with_statistics


class DenseHead:
    """The dense head of a detector of mmdet; its branches are ``'cls'`` and ``'reg'``."""

    def __init__(self, model: nn.Module) -> None:
        self.head = head = getattr(model, 'bbox_head', None)
        if not hasattr(head, 'reg_convs') or not hasattr(head.cls_convs[0], 'activate'):
            got = type(model).__name__
            raise ValueError(f'the teacher must be as RetinaNet, GFL, FCOS or ATSS, got {got}')
        self.convs = dict(cls=head.cls_convs, reg=head.reg_convs)
        self.bins = getattr(head, 'reg_max', -1) + 1

    def precision(self) -> ContextManager:
        """Autocast if the weights are in half precision."""
        weight = next(self.head.cls_convs.parameters())
        half = weight.dtype.itemsize < 4
        return torch.autocast(weight.device.type, weight.dtype) if half else nullcontext()

    def until(self, branch: str, feature: Tensor, index: int) -> Tensor:
        """What the first ``index`` convolutions make of a map, before the last activation."""
        *convs, last = self.convs[branch][:index]
        for conv in convs:
            feature = conv(feature)
        return last(feature, activate=False)

    def after(self, branch: str, feature: Tensor, index: int, level: int) -> Tensor:
        """The prediction from what :meth:`until` returns; boxes are not decoded."""
        feature = self.convs[branch][index - 1].activate(feature.clone())  # works in place
        for conv in self.convs[branch][index:]:
            feature = conv(feature)
        layers = dict(self.head.named_children())
        name = next(n for n in layers if n.endswith(f'_{branch}') and not n.startswith('loss'))
        prediction = layers[name](feature)
        if branch == 'reg' and hasattr(self.head, 'scales'):
            prediction = self.head.scales[level](prediction)
        return at_least_float32(prediction)

    def boxes(self, prediction: Tensor) -> Tensor:
        """Boxes (M, 4) from (N, A * 4, H, W), in units and from the centre of their anchors."""
        rows, coder = rows_of(prediction, 4), self.head.bbox_coder
        if hasattr(coder, 'stds'):
            columns = zip(rows.unbind(dim=1), coder.stds, coder.means)
            rows = torch.stack([x * std + mean for x, std, mean in columns], dim=1)
            # mmdet limits the sides of a box to 1000 / 16 times those of its anchor.
            halves = rows[:, 2:].exp().clamp(16 / 1000, 1000 / 16) / 2
            return torch.cat([rows[:, :2] - halves, rows[:, :2] + halves], dim=1)
        rows = rows.clamp(min=0) if getattr(self.head, 'norm_on_bbox', False) else rows.exp()
        return torch.cat([-rows[:, :2], rows[:, 2:]], dim=1)


class CrossKDHead(nn.Module):
    """CrossKD: Cross-Head Knowledge Distillation for Object Detection (Wang et al., 2024).

    A feature of the student's dense head goes through the rest of the teacher's, whose predictions
    are compared: class scores by the quality focal loss (beta 1); boxes, weighted by the teacher's
    best class score, by the KL divergence of their distributions (GFL) or else the generalised
    overlap. Each branch is a pair, of ``teacher='neck'`` with
    ``student='bbox_head.cls_convs.2.activate:input'``, or ``reg_convs`` for boxes.

    The published code divides by numbers of all levels; a head knows one. Scores and overlaps are
    summed over places and divided by 9 times the number of annotated boxes, about as many anchors
    as ATSS assigns. Divergences are a mean over the level times 3/4, 3/16, ..., its share in the
    places of a pyramid. Published: the defaults; for FCOS ``index=2`` and ``loss_weight=0.4``
    (scores) and 0.75 (boxes).

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
        if branch not in dense.convs:
            raise ValueError(f"branch must be 'cls' or 'reg', got {branch!r}")
        if loss_weight is None:
            loss_weight = 4.0 if branch == 'reg' and dense.bins else 1.0
        self.index = len(dense.convs[branch]) if index is None else index
        check_numbers(0, float, loss_weight=loss_weight)
        check_numbers(0, float, above=True, tau=tau)
        check_numbers(1, int, index=self.index)
        self.branch, self.loss_weight, self.tau = branch, loss_weight, tau
        if index is not None:
            self.align = project(student_channels, dense.convs[branch][index - 1].out_channels)
        # In a function the teacher is neither a submodule nor copied with this one.
        self.teacher = lambda: dense

    def forward(self, student_feat: Tensor, teacher_feat: Tensor, context: Any) -> HeadOutput:
        """Compare predictions, from the student's feature before its activation and the neck's."""
        check_maps(student_feat, teacher_feat)
        dense, branch, level = self.teacher(), self.branch, context.level
        predicted = at_least_float32(student_feat)
        with dense.precision():
            with torch.no_grad():
                hidden = {b: dense.until(b, teacher_feat, self.index) for b in {branch, 'cls'}}
                theirs = {b: dense.after(b, x, self.index, level) for b, x in hidden.items()}
            if hasattr(self, 'align'):
                maps = (at_least_float32(x) for x in (self.align(student_feat), hidden[branch]))
                aligned = with_statistics(*maps)
                predicted = dense.after(branch, aligned, self.index, level)
        target = theirs[branch]
        scores = rows_of(theirs['cls'], dense.head.cls_out_channels).sigmoid()
        anchors = max(1, 9 * sum(map(len, context.boxes())))
        if branch == 'cls':
            logits = rows_of(predicted, scores.shape[1])
            entropy = F.binary_cross_entropy_with_logits(logits, scores, reduction='none')
            distance = (entropy * (logits.sigmoid() - scores).abs()).sum() / anchors
        elif dense.bins:
            weights = scores.amax(dim=1, keepdim=True)
            distributions = (rows_of(x, dense.bins) for x in (predicted, target))
            sides = weights * softmax_kl_each(*distributions, self.tau).view(-1, 4)
            distance = sides.mean() / weights.mean() * 0.75 / 4**level
        else:
            losses = giou_loss(dense.boxes(predicted), dense.boxes(target))
            distance = (scores.amax(dim=1) * losses).sum() / anchors
        distance = self.loss_weight * distance
        return HeadOutput(predicted, target, predicted.detach(), distance=distance)


class LDHead(CrossKDHead):
    """Localization Distillation for Dense Object Detection (Zheng et al., 2022), equation 3.

    The KL divergence of the distributions that GFL predicts for the sides of boxes, averaged as in
    :class:`CrossKDHead`. The published code sums it over the places of assigned boxes, weighted by
    the student's score, and divides by the number of values. The paths of the pair are
    ``student='bbox_head[1]'`` and ``teacher='neck'``.

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
            raise ValueError('the teacher must predict distributions of boxes, as GFL does')


def rows_of(prediction: Tensor, width: int) -> Tensor:
    """(N, A * width, H, W) as (N * H * W * A, width)."""
    return prediction.permute(0, 2, 3, 1).reshape(-1, width)


def giou_loss(boxes: Tensor, others: Tensor, eps: float = 1e-7) -> Tensor:
    """One minus the generalised overlap of each box (M, 4) with its other, (M,).

    That of torchvision has a GPU wait, because it indexes with a mask.
    """
    smaller, larger = torch.min(boxes, others), torch.max(boxes, others)
    common, hull = area(larger[:, :2], smaller[:, 2:]), area(smaller[:, :2], larger[:, 2:])
    union = area(*boxes.split(2, dim=1)) + area(*others.split(2, dim=1)) - common
    return 1 - common / (union + eps) + (hull - union) / (hull + eps)


def area(first: Tensor, last: Tensor) -> Tensor:
    """Areas (M,) between two corners (M, 2), 0 if the second is not beyond the first."""
    width, height = (last - first).clamp(min=0).unbind(dim=1)
    return width * height
