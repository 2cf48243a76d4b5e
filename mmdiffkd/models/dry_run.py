"""Running a model on made-up images, to see what it yields."""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

import torch
from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor, nn

from mmdiffkd.capture import FeatureCapture
from mmdiffkd.errors import ConfigError, describe
from mmdiffkd.models.hosts import run_for_features

ImageShape = Tuple[int, int, int]
"""Channels, height and width of a model's input."""

# Sides in pixels. Nearly all models accept the first; others have one fixed or a larger size.
_SIDES = (224, 384, 512, 256, 192, 448, 336, 640, 768, 1024, 128, 96, 64, 32)

TRIAL_SIDE = 96
"""Side in pixels of the small images on which two versions of one model are compared."""


@dataclass
class ImageShapes:
    """Shapes of made-up images to try a model on, the most likely first.

    Attributes:
        channels: Number of channels of the model's input.
        known: Shape of the training images, or None if it is unknown.
        sample: Function that reads this shape off the data, called if ``known`` is None and the
            usual shape was not accepted.
    """

    channels: int
    known: Optional[ImageShape]
    sample: Callable[[], Optional[ImageShape]]

    def __iter__(self) -> Iterator[ImageShape]:
        usual, *others = [(self.channels, side, side) for side in _SIDES]
        # The first convolution of YOLOX has more channels than the image.
        others = [*others, (3, *usual[1:])] if self.channels != 3 else others
        # Large images would take longer than the usual ones.
        if self.known is not None and self.known[1] * self.known[2] <= usual[1] * usual[2]:
            yield self.known
        yield usual
        likely = self.sample() if self.known is None else self.known
        yield from others if likely is None else [likely, *others]


def blank_batch(shape: ImageShape) -> Tuple[Tensor, List[BaseDataElement]]:
    """One blank image, (1, C, H, W), and its data sample."""
    size = tuple(shape[1:])
    keys = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    metainfo = dict(dict.fromkeys(keys, size), scale_factor=(1.0, 1.0))
    return torch.zeros(1, *shape), [BaseDataElement(metainfo=metainfo)]


def random_batch(shape: ImageShape, number: int) -> Tuple[Tensor, List[BaseDataElement]]:
    """The same images of noise every time, (number, C, H, W), and their data samples."""
    generator = torch.Generator().manual_seed(0)
    samples = [blank_batch(shape)[1][0] for _ in range(number)]
    return torch.randn(number, *shape, generator=generator), samples


def annotated_batch(shape: ImageShape, number: int) -> Tuple[Tensor, List[BaseDataElement]]:
    """:func:`random_batch` with labels for classification and segmentation, all of class 0."""
    images, samples = random_batch(shape, number)
    for sample in samples:
        sample.gt_label = torch.zeros(1, dtype=torch.long)
        sample.gt_sem_seg = PixelData(data=torch.zeros(1, *shape[1:], dtype=torch.long))
    return images, samples


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; modes and random state are restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def blaming(where: str, image: Tensor) -> Iterator[None]:
    """Turn an error of a dry forward into a :class:`ConfigError` that names the config key."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        size = '{}x{}'.format(*image.shape[-2:])
        raise ConfigError(
            f'{where}: the dry forward of a blank {size} image failed: {describe(error)}'
        ) from error


def blank_features(
    model: nn.Module, role: str, paths: Iterable[str], shape: ImageShape
) -> Tuple[Dict[str, List[Tensor]], Dict[str, int]]:
    """A model's features of a blank image, and the number of calls behind them, both by path."""
    image, samples = blank_batch(shape)
    capture = FeatureCapture(model, paths, role=role)
    with undisturbed(model), blaming(role, image), capture as features:
        run_for_features(model, features, image, samples)
    return features, capture.calls


def first_accepted(shapes: Iterable[ImageShape], run: Callable[[ImageShape], Any]) -> Any:
    """The result of ``run`` for the first shape that raises no :class:`ConfigError`.

    If all shapes raise, the first error is raised.
    """
    errors = []
    for shape in shapes:
        try:
            return run(shape)
        except ConfigError as error:
            errors.append(error)
    raise errors[0]
