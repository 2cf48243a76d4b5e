"""MGD and FGD: feature maps of which parts are left out, or weigh more."""

from typing import Any, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdiffkd.diffusion import HeadOutput
from mmdiffkd.diffusion.layers import conv, project
from mmdiffkd.diffusion.output import check_maps
from mmdiffkd.diffusion.precision import at_least_float32
from mmdiffkd.errors import check_numbers


class MGDHead(nn.Module):
    """Masked Generative Distillation (Yang et al., 2022), equations 3 to 5.

    Random places or channels of the student's map become 0, and two convolutions generate the
    teacher's from the rest; the distance is the squared error, summed over the map. Published:
    one-stage detectors ``alpha=2e-5``, ``mask_ratio=0.65``; two-stage ones 5e-7, 0.45; segmentation
    2e-5, 0.75; classification 7e-5, 0.15 with ``mask='channels'``.

    Args:
        student_channels: Number Cs of channels of the student map.
        teacher_channels: Number Ct of channels of the teacher map.
        mask_ratio: Share of the places or channels that becomes 0.
        mask: ``'pixels'`` to mask places, ``'channels'`` to mask channels.
        alpha: Weight of the distance.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        mask_ratio: float = 0.65,
        mask: str = 'pixels',
        alpha: float = 2e-5,
    ) -> None:
        super().__init__()
        check_numbers(0, float, mask_ratio=mask_ratio, alpha=alpha)
        if mask not in ('pixels', 'channels'):
            raise ValueError(f"mask must be 'pixels' or 'channels', got {mask!r}")
        self.mask_ratio, self.by_place, self.alpha = mask_ratio, mask == 'pixels', alpha
        self.align = project(student_channels, teacher_channels)
        first, last = (conv(teacher_channels, teacher_channels, 3) for _ in range(2))
        self.generation = nn.Sequential(first, nn.ReLU(inplace=True), last)

    def forward(
        self, student_feat: Tensor, teacher_feat: Tensor, *, uniform: Optional[Tensor] = None
    ) -> HeadOutput:
        """Compare (N, Cs, H, W) with (N, Ct, H, W).

        ``uniform`` numbers, (N, 1, H, W) or for channels (N, Ct, 1, 1), make the mask; None draws.
        """
        check_maps(student_feat, teacher_feat)
        aligned, target = self.align(student_feat), at_least_float32(teacher_feat).detach()
        if uniform is None:
            uniform = torch.rand_like(target[:, :1] if self.by_place else target[:, :, :1, :1])
        kept = uniform <= 1 - self.mask_ratio if self.by_place else uniform >= self.mask_ratio
        refined = at_least_float32(self.generation(aligned * kept))
        error = self.alpha * F.mse_loss(refined, target, reduction='sum') / max(1, len(target))
        return HeadOutput(refined, target, at_least_float32(aligned).detach(), distance=error)


class FGDHead(nn.Module):
    """Focal and Global Knowledge Distillation for Detectors (Yang et al., 2022), equation 11.

    The distance has four parts: squared errors inside and outside of the boxes of objects, both
    weighted by the teacher's attention; the difference of the attentions; and the squared error
    after a block that adds to each place what the whole image says. Published settings: one-stage
    detectors the defaults; two-stage ones 0.5, 5e-5, 2.5e-5, 5e-5, 5e-7 from ``temperature`` on;
    FCOS 0.8, 1.6e-3, 8e-4, 8e-4, 8e-6.

    Args:
        student_channels: Number Cs of channels of the student map.
        teacher_channels: Number Ct of channels of the teacher map.
        temperature: Temperature of the attention, above 0.
        alpha: Weight of the places inside boxes.
        beta: Weight of the places outside.
        gamma: Weight of the difference of the attentions.
        lambda_: Weight of the relations.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        temperature: float = 0.5,
        alpha: float = 1e-3,
        beta: float = 5e-4,
        gamma: float = 5e-4,
        lambda_: float = 5e-6,
    ) -> None:
        super().__init__()
        check_numbers(0, float, above=True, temperature=temperature)
        check_numbers(0, float, alpha=alpha, beta=beta, gamma=gamma, lambda_=lambda_)
        self.temperature, self.weights = temperature, (alpha, beta, gamma, gamma, lambda_)
        self.align = project(student_channels, teacher_channels)
        hidden = max(1, teacher_channels // 2)
        for role in 'st':
            scores, last = conv(teacher_channels, 1), conv(hidden, teacher_channels)
            nn.init.kaiming_normal_(scores.weight)
            for zero in (scores.bias, last.weight, last.bias):
                nn.init.zeros_(zero)
            block = [conv(teacher_channels, hidden), nn.LayerNorm([hidden, 1, 1]), nn.ReLU(), last]
            self.add_module(f'conv_mask_{role}', scores)
            self.add_module(f'channel_add_conv_{role}', nn.Sequential(*block))

    def forward(self, student_feat: Tensor, teacher_feat: Tensor, context: Any) -> HeadOutput:
        """Compare (N, Cs, H, W) with (N, Ct, H, W); ``context`` has the boxes of the batch."""
        check_maps(student_feat, teacher_feat)
        aligned = at_least_float32(self.align(student_feat))
        target = at_least_float32(teacher_feat).detach()
        sizes = [context.image_size] * len(target)  # the map covers the padded images
        distance = self.distance(aligned, target, context.boxes(), sizes)
        return HeadOutput(aligned, target, aligned.detach(), distance=distance)

    def distance(
        self, student: Tensor, teacher: Tensor, boxes: Sequence[Tensor], sizes: Sequence[Sequence]
    ) -> Tensor:
        """The weighted sum of all parts for maps (N, Ct, H, W), a scalar.

        ``boxes`` of each image are (n, 4): left, top, right, bottom. They are in pixels, as the
        heights and widths ``sizes`` that the maps of the images cover.
        """
        inside = torch.zeros_like(teacher[:, :1])
        for mask, of_image, size in zip(inside, boxes, sizes):
            mask[0] = box_mask(of_image, size, teacher)
        outside = (inside == 0).to(inside)
        outside = outside / outside.sum(dim=(2, 3), keepdim=True).clamp(min=1)
        places_s, channels_s = attention(student, self.temperature)
        places_t, channels_t = attention(teacher, self.temperature)
        error = (student - teacher).square() * places_t * channels_t
        with torch.autocast(student.device.type, enabled=False):
            related_s = student + self.channel_add_conv_s(pooled(student, self.conv_mask_s))
            related_t = teacher + self.channel_add_conv_t(pooled(teacher, self.conv_mask_t))
        places, channels = (places_s - places_t).abs(), (channels_s - channels_t).abs()
        parts = error * inside, error * outside, places, channels, (related_s - related_t).square()
        total = sum(weight * part.sum() for weight, part in zip(self.weights, parts))
        return total / max(1, len(teacher))


def pooled(x: Tensor, scores: nn.Conv2d) -> Tensor:
    """Mean of (N, C, H, W) over places, weighted by the softmax of scores; (N, C, 1, 1)."""
    weights = scores(x).flatten(2).softmax(dim=2).view_as(x[:, :1])
    return (x * weights).sum(dim=(2, 3), keepdim=True)


def attention(x: Tensor, temperature: float) -> Tuple[Tensor, Tensor]:
    """Attention to places, (N, 1, H, W), and to channels, (N, C, 1, 1), each of mean 1."""
    places = x.abs().mean(dim=1, keepdim=True).flatten(2) / temperature
    channels = x.abs().mean(dim=(2, 3), keepdim=True) / temperature
    places = (places.shape[2] * places.softmax(dim=2)).view_as(x[:, :1])
    return places, x.shape[1] * channels.softmax(dim=1)


def box_mask(boxes: Tensor, size: Sequence, like: Tensor) -> Tensor:
    """One over the number of places of the smallest box around each place, (H, W); 0 outside."""
    boxes, inside, number = boxes.to(like), [], 1
    # Python's numbers, because a tensor made of them would have a GPU wait for the host.
    for axis, (length, places) in enumerate(zip(size[1::-1], like.shape[:-3:-1])):
        first = (boxes[:, axis] / length * places).floor()[:, None]
        last = (boxes[:, axis + 2] / length * places).ceil()[:, None]
        side = torch.arange(places, device=like.device, dtype=like.dtype)
        inside.append((side >= first) & (side <= last))
        number = number * (last - first + 1).clamp(min=1)
    masks = (inside[1][:, :, None] & inside[0][:, None]) / number[:, None]
    return torch.cat([like.new_zeros(1, *like.shape[-2:]), masks]).amax(dim=0)
