"""Give the teacher the input it was trained with, from the student's prepared batch."""

from typing import NamedTuple, Optional, Sequence

import torch
from torch import Tensor, nn

from .build import ConfigError


class InputFormat(NamedTuple):
    """How a data preprocessor turns loaded pixels into a model's input.

    Attributes:
        mean: Subtracted, (C, 1, 1) or (1, 1, 1).
        std: Divided by, same shape.
        flips_channels: Whether BGR and RGB are exchanged on the way.
        pad_value: Fills what lies beyond an image in its batch, after the normalisation.
    """

    mean: Tensor
    std: Tensor
    flips_channels: bool
    pad_value: float

    @classmethod
    def of(cls, preprocessor: nn.Module) -> 'InputFormat':
        """Read the format off a preprocessor of mmengine, mmdet, mmseg or mmpretrain."""
        mean = getattr(preprocessor, 'mean', None)
        std = getattr(preprocessor, 'std', None)
        # mmengine and its heirs note a conversion, mmpretrain the wish for RGB.
        flips = getattr(preprocessor, '_channel_conversion', False) or getattr(
            preprocessor, 'to_rgb', False
        )
        return cls(
            mean=torch.zeros(1, 1, 1) if mean is None else mean.detach().clone().float(),
            std=torch.ones(1, 1, 1) if std is None else std.detach().clone().float(),
            flips_channels=bool(flips),
            pad_value=float(getattr(preprocessor, 'pad_value', 0)),
        )


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
        self.flip = source.flips_channels != target.flips_channels
        source_mean, source_std = source.mean, source.std
        if self.flip:
            source_mean, source_std = source_mean.flip(0), source_std.flip(0)
        self.pad_value = target.pad_value
        scale = source_std / target.std
        shift = (source_mean - target.mean) / target.std
        self.register_buffer('scale', scale, persistent=False)
        self.register_buffer('shift', shift, persistent=False)
        self.is_identity = (
            not self.flip
            and source.pad_value == target.pad_value
            and bool((scale == 1).all() and (shift == 0).all())
        )

    def forward(self, inputs: Tensor, data_samples: Optional[Sequence] = None) -> Tensor:
        """Convert a batch.

        Args:
            inputs: (N, C, H, W) in the source format; not changed.
            data_samples: One per image; the ``img_shape`` of their meta information tells where
                an image ends and padding begins.

        Returns:
            (N, C, H, W) in the target format.
        """
        if self.is_identity:
            return inputs
        if self.flip:
            inputs = inputs.flip(1)
        converted = inputs * self.scale + self.shift
        samples = () if data_samples is None else data_samples
        if not all(hasattr(sample, 'metainfo') for sample in samples):
            raise ConfigError(
                f'data_samples: student and teacher normalise images differently, for which the '
                f'meta information of one data sample per image has to say where the padding '
                f'begins (img_shape); got a {type(samples).__name__} without'
            )
        for image, sample in zip(converted, samples):
            height, width = sample.metainfo.get('img_shape', image.shape[-2:])[:2]
            image[:, height:] = self.pad_value
            image[:, :, width:] = self.pad_value
        return converted
