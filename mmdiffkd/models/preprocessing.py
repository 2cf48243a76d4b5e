"""Give the teacher the input it was trained with, from the student's prepared batch."""

import math
from typing import Any, NamedTuple, Optional, Sequence

import torch
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmdiffkd.errors import ConfigError
from mmdiffkd.models.hosts import check_keys

EXTENT = 'unpadded_shape'
"""Meta information of a data sample: height and width of its picture before it was padded, where
``img_shape`` does not say it, and the ``img_shape`` of then."""

# Largest difference of two formats that makes none, relative to the spread of a model's input.
_SAME = 1e-3
# How far apart the pixels of a batch are at least. Normalised ones taken for plain ones are closer.
_LEAST_SPREAD = 5


class InputFormat(NamedTuple):
    """How loaded pixels, 0 to 255 in BGR order, become a model's input.

    Attributes:
        mean: Subtracted, (C, 1, 1), in the order of the input's channels.
        std: Divided by, same shape.
        rgb: Whether the channels of the input are in RGB order.
        pad_value: Fills what lies beyond an image in its batch, after the normalisation.
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
        mean, std = (torch.tensor(x).float().view(-1, 1, 1) for x in (list(mean), list(std)))
        return cls(mean, std, rgb, pad_value)

    @classmethod
    def from_config(cls, cfg: Any, where: str, pad_value: float = 0.0) -> 'InputFormat':
        """The format that a config states.

        Args:
            cfg: ``dict(mean=..., std=..., rgb=...)``: lists of one number for each channel, and
                whether the channels are in RGB order.
            where: The config key, for errors.
            pad_value: Value of padding.
        """
        check_keys(cfg, ('mean', 'std', 'rgb'), ('mean', 'std', 'rgb'), where)
        numbers = [cfg['mean'], cfg['std']]
        lists = all(isinstance(part, (list, tuple)) and part for part in numbers)
        if not lists or not all(isinstance(x, (int, float)) for part in numbers for x in part):
            raise ConfigError(f'{where}: mean and std must be lists of one number per channel')
        if len(numbers[0]) != len(numbers[1]):
            raise ConfigError(
                f'{where}: mean has {len(numbers[0])} numbers, std {len(numbers[1])}; both need '
                f'one per channel'
            )
        if not isinstance(cfg['rgb'], bool) or not math.isfinite(sum(map(sum, numbers))):
            raise ConfigError(f'{where}: rgb must be True or False, mean and std finite numbers')
        if min(cfg['std']) < 1:
            raise ConfigError(
                f'{where}: std must be that of pixels from 0 to 255, at least 1, got '
                f'{min(cfg["std"])}; multiply mean and std of pixels from 0 to 1 by 255'
            )
        return cls.from_numbers(*numbers, cfg['rgb'], pad_value)

    @property
    def normalises(self) -> bool:
        """Whether the input is anything but the pixels themselves."""
        return not bool((self.mean.abs() < _SAME).all() and ((self.std - 1).abs() < _SAME).all())

    def __str__(self) -> str:
        order = 'RGB' if self.rgb else 'BGR'
        if not self.normalises:
            return f'{order} pixels'
        mean, std = (' '.join(f'{x:.4g}' for x in part.flatten()) for part in (self.mean, self.std))
        return f'{order} pixels less {mean}, divided by {std}'


class InputConverter(nn.Module):
    """Re-normalises a batch from one model's input format to another's.

    Resizing, cropping and batch augmentations such as mixup have been applied by the student's
    preprocessing, once, and hold for both models because normalisation is linear.

    Args:
        source: Format of the batch.
        target: Format wanted.
    """

    def __init__(self, source: InputFormat, target: InputFormat) -> None:
        super().__init__()
        self.flip = source.rgb != target.rgb
        source_mean, source_std = source.mean, source.std
        if self.flip:
            source_mean, source_std = source_mean.flip(0), source_std.flip(0)
        self.source, self.pad_value = source, target.pad_value
        scale = source_std / target.std
        shift = (source_mean - target.mean) / target.std
        self.register_buffer('scale', scale, persistent=False)
        self.register_buffer('shift', shift, persistent=False)
        self.is_identity = (
            not self.flip
            and source.pad_value == target.pad_value
            and bool(((scale - 1).abs() < _SAME).all() and (shift.abs() < _SAME).all())
        )

    def check(self, inputs: Tensor) -> None:
        """Raise unless a batch can be what its format says: pixels from 0 to 255 before.

        Args:
            inputs: (N, C, H, W) of the student's training data.
        """
        if self.is_identity:
            return
        spread = float(((inputs.amax() - inputs.amin()) * self.source.std.max()).abs())
        if 0 < spread < _LEAST_SPREAD:
            raise ConfigError(
                f"student_input: the student's pictures cannot be {self.source}, as it seemed when "
                f'the model was built: their pixels would be {spread:.3g} apart at most. Say what '
                f'they are with student_input=dict(mean=[...], std=[...], rgb=True), or '
                f"teacher.input='student' if the teacher takes the same"
            )

    def forward(self, inputs: Tensor, data_samples: Optional[Sequence] = None) -> Tensor:
        """Convert a batch.

        Args:
            inputs: (N, C, H, W) in the source format; not changed.
            data_samples: One per image; :func:`extent_of` tells where an image ends and padding
                begins.

        Returns:
            (N, C, H, W) in the target format.
        """
        if self.is_identity:
            return inputs
        if self.flip:
            inputs = inputs.flip(1)
        converted = inputs * self.scale + self.shift
        samples = data_samples if isinstance(data_samples, (list, tuple)) else ()
        for image, sample in zip(converted, samples):
            height, width = extent_of(sample) or image.shape[-2:]
            image[:, height:] = self.pad_value
            image[:, :, width:] = self.pad_value
        return converted


def pad_value_of(preprocessor: Optional[nn.Module]) -> float:
    """With what a data preprocessor pads pictures, after the normalisation."""
    return float(getattr(preprocessor, 'pad_value', 0))


def extent_of(sample: Any) -> Optional[Sequence[int]]:
    """Height and width of a data sample's picture without its padding, or None if unknown."""
    metainfo = getattr(sample, 'metainfo', {})
    shape = metainfo.get('img_shape', ())[:2] or None
    size, stated = metainfo.get(EXTENT, (shape, None))
    if stated is None or tuple(shape) in (size, stated):
        return size
    # What has resized the batch since then has kept img_shape up to date.
    return [round(a * b / c) for a, b, c in zip(size, shape, stated)]


class ExtentRecorder:
    """A forward pre-hook of a data preprocessor: notes how large pictures are before it pads them.

    Many transforms change a picture's size and leave ``img_shape`` as it was. Where the two differ,
    the data sample gets the picture's own size as :data:`EXTENT`, and the log a line, once.
    """

    def __init__(self) -> None:
        self._said = False

    def __call__(self, preprocessor: nn.Module, args: Sequence) -> None:
        """Look at the ``inputs`` and ``data_samples`` of a batch."""
        batch = args[0] if args and isinstance(args[0], dict) else {}
        inputs, samples = batch.get('inputs'), batch.get('data_samples')
        if not isinstance(inputs, (list, tuple, Tensor)) or not isinstance(samples, (list, tuple)):
            return
        for picture, sample in zip(inputs, samples):
            if not isinstance(picture, Tensor) or not isinstance(sample, BaseDataElement):
                continue
            size, stated = tuple(picture.shape[-2:]), extent_of(sample)
            if stated is None or tuple(stated) == size:
                continue
            sample.set_metainfo({EXTENT: (size, tuple(stated))})
            if not self._said:
                self._said = True
                print_log(
                    f'img_shape says {stated[0]}x{stated[1]} of a picture of {size[0]}x{size[1]}, '
                    f'because a transform did not keep it up to date; for the teacher the '
                    f"picture's own size counts",
                    'current',
                )
