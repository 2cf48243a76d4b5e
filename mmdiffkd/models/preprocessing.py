"""Conversion of the student's prepared batch to the input that the teacher was trained with."""

from typing import Any, NamedTuple, Optional, Sequence

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmdiffkd.errors import ConfigError
from mmdiffkd.models.hosts import check_keys

# Key of a data sample's meta information: height and width of its image before padding, each
# relative to `img_shape`. Batch augmentations that resize scale `img_shape`.
_EXTENT = 'unpadded_scale'
# Largest difference of formats that count as equal, relative to the spread of a model's input.
_SAME = 1e-3


class InputFormat(NamedTuple):
    """How pixels from 0 to 255 become a model's input.

    ``mean`` is subtracted and the rest divided by ``std``, both (C, 1, 1) and in the order of the
    input's channels: RGB if ``rgb``, else BGR. Padding of the input has the ``pad_value``.
    """

    mean: Tensor
    std: Tensor
    rgb: bool
    pad_value: float = 0.0

    @classmethod
    def from_numbers(
        cls, mean: Sequence[float], std: Sequence[float], rgb: bool, pad_value: float = 0.0
    ) -> 'InputFormat':
        """A format from one number per channel."""
        mean, std = (torch.tensor([*x]).float().view(-1, 1, 1) for x in (mean, std))
        return cls(mean, std, rgb, float(pad_value))

    @classmethod
    def from_config(cls, cfg: Any, where: str, preprocessor: Any = None) -> 'InputFormat':
        """A format from ``dict(mean=[...], std=[...], rgb=...)`` at the config key ``where``.

        The value of padding is that of the data preprocessor.
        """
        check_keys(cfg, ('mean', 'std', 'rgb'), ('mean', 'std', 'rgb'), where)
        try:
            mean, std = torch.tensor([cfg['mean'], cfg['std']]).float().unbind()
            valid = (
                mean.dim() == 1 and len(mean) and (mean + std).isfinite().all() and std.min() >= 1
            )
        except (TypeError, ValueError, RuntimeError):
            valid = False
        if not valid or not isinstance(cfg['rgb'], bool):
            raise ConfigError(
                f'{where}: mean and std must be lists of one finite number per channel, those of '
                f'pixels from 0 to 255 (std at least 1; multiply numbers of pixels from 0 to 1 by '
                f'255), and rgb must be True or False, got {dict(cfg)}'
            )
        return cls.from_numbers(**cfg, pad_value=getattr(preprocessor, 'pad_value', 0))

    @property
    def normalises(self) -> bool:
        """Whether the input differs from the plain pixels."""
        return not bool((self.mean.abs() < _SAME).all() and ((self.std - 1).abs() < _SAME).all())

    def __str__(self) -> str:
        mean, std = (' '.join(f'{x:.4g}' for x in part.flatten()) for part in self[:2])
        return f'{"RGB" if self.rgb else "BGR"} pixels less {mean}, divided by {std}'


class InputConverter(nn.Module):
    """Converts batches from one input format to another, also after mixup, because it is linear."""

    def __init__(self, source: InputFormat, target: InputFormat) -> None:
        super().__init__()
        self.flip = source.rgb != target.rgb
        mean, std = (x.flip(0) if self.flip else x for x in (source.mean, source.std))
        self.source, self.pad_value = source, target.pad_value
        self.register_buffer('scale', std / target.std, persistent=False)
        self.register_buffer('shift', (mean - target.mean) / target.std, persistent=False)
        same = ((self.scale - 1).abs() < _SAME).all() and (self.shift.abs() < _SAME).all()
        self.is_identity = not self.flip and source.pad_value == self.pad_value and bool(same)

    def check(self, inputs: Tensor) -> None:
        """Raise :class:`ConfigError` if a training batch (N, C, H, W) contradicts its format."""
        if self.is_identity:
            return
        spread = float(((inputs.amax() - inputs.amin()) * self.source.std.max()).abs())
        # Normalised pixels have such a small range.
        if 0 < spread < 5:
            raise ConfigError(
                f"student_input: the student's pictures cannot be {self.source}: their pixels "
                f'would be {spread:.3g} apart at most. Give student_input=dict(mean=[...], '
                f"std=[...], rgb=True), or teacher.input='student' if the teacher takes the same"
            )

    def forward(self, inputs: Tensor, data_samples: Any = None) -> Tensor:
        """Convert a batch (N, C, H, W); a list of one data sample per image tells its padding."""
        if self.is_identity:
            return inputs
        converted = (inputs.flip(1) if self.flip else inputs) * self.scale + self.shift
        samples = data_samples if isinstance(data_samples, (list, tuple)) else ()
        for image, sample in zip(converted, samples):
            height, width = extent_of(sample) or image.shape[-2:]
            image[:, height:] = self.pad_value
            image[:, :, width:] = self.pad_value
        return converted


def extent_of(sample: Any) -> Optional[Sequence[int]]:
    """Height and width of a data sample's image without its padding, or None if unknown."""
    metainfo = sample.metainfo if isinstance(sample, BaseDataElement) else {}
    sides, scales = tuple(metainfo.get('img_shape') or ())[:2], metainfo.get(_EXTENT, (1, 1))
    return tuple(round(side * scale) for side, scale in zip(sides, scales)) or None


def record_extents(preprocessor: nn.Module, args: Sequence) -> None:
    """Forward pre-hook of a preprocessor that records sizes of images for :func:`extent_of`.

    Many transforms change the size of an image but not its ``img_shape``.
    """
    batch = args[0] if args and isinstance(args[0], dict) else {}
    samples = batch.get('data_samples')
    for image, sample in zip(batch.get('inputs', ()), samples if isinstance(samples, list) else ()):
        if isinstance(image, Tensor) and extent_of(sample) not in (None, image.shape[-2:]):
            scales = tuple(a / b for a, b in zip(image.shape[-2:], sample.img_shape))
            sample.set_metainfo({_EXTENT: scales})
