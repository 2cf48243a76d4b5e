"""Run a model on made-up images, to see what it yields."""

from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

import torch
from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor, nn

from mmdiffkd.capture import FeatureCapture
from mmdiffkd.errors import ConfigError, describe
from mmdiffkd.models.hosts import run_for_features

ImageShape = Tuple[int, int, int]
"""Channels, height and width of a model's input."""

# Sides in pixels to try. Nearly all models take the first; others are made for one size only, or
# need larger ones.
_SIDES = (224, 384, 512, 256, 192, 448, 336, 640, 768, 1024, 128, 96, 64, 32)

TRIAL_SIDE = 96
"""Side in pixels of the images on which a teacher is compared with itself, if it takes them: what
follows what in a model does not depend on the size, and large images take seconds."""


class ImageShapes:
    """Shapes of made-up images to try a model on, the most likely first.

    Args:
        channels: Number of channels of the model's input.
        known: Shape of the images that the model is trained on, or None if it is not known. It
            comes after the usual one if it is larger, which would take longer.
        sample: Yields the shape of one of these images, or None. It is called if ``known`` is None
            and the usual shape was not accepted.
    """

    def __init__(
        self,
        channels: int,
        known: Optional[ImageShape],
        sample: Callable[[], Optional[ImageShape]],
    ) -> None:
        self.channels, self.known, self.sample = channels, known, sample

    def __iter__(self) -> Iterator[ImageShape]:
        usual, *others = [(self.channels, side, side) for side in _SIDES]
        # A first convolution may see a picture's pixels side by side, as that of YOLOX.
        others = [*others, (3, *usual[1:])] if self.channels != 3 else others
        if self.known is not None and self.known[1] * self.known[2] <= usual[1] * usual[2]:
            yield self.known
        yield usual
        likely = self.sample() if self.known is None else self.known
        yield from others if likely is None else [likely, *others]


def blank_batch(shape: ImageShape) -> Tuple[Tensor, List[BaseDataElement]]:
    """One blank image, (1, C, H, W), and a data sample with what host models read of it."""
    size = tuple(shape[1:])
    sample = BaseDataElement(
        metainfo=dict(
            img_shape=size,
            ori_shape=size,
            pad_shape=size,
            batch_input_shape=size,
            scale_factor=(1.0, 1.0),
        )
    )
    return torch.zeros(1, *shape), [sample]


def random_batch(shape: ImageShape, number: int) -> Tuple[Tensor, List[BaseDataElement]]:
    """Images of noise, always the same, (number, C, H, W), and their data samples."""
    generator = torch.Generator().manual_seed(0)
    samples = [blank_batch(shape)[1][0] for _ in range(number)]
    return torch.randn(number, *shape, generator=generator), samples


def annotated_batch(shape: ImageShape, number: int) -> Tuple[Tensor, List[BaseDataElement]]:
    """Images of noise as :func:`random_batch` gives them, all of class 0, in whole and by pixel.

    That is what the losses of classifiers and segmentors read.
    """
    images, samples = random_batch(shape, number)
    for sample in samples:
        sample.gt_label = torch.zeros(1, dtype=torch.long)
        sample.gt_sem_seg = PixelData(data=torch.zeros(1, *shape[1:], dtype=torch.long))
    return images, samples


@contextmanager
def undisturbed(model: nn.Module):
    """Run a model once, and leave modes, buffers and random state as they were."""
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
def blaming(where: str, image: Tensor):
    """Say which part of the config it was that failed in the dry forward of ``image``."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        # Whatever a model or a head raises when it is given what it cannot work with.
        height, width = image.shape[-2:]
        raise ConfigError(
            f'{where}: the dry forward of a blank {height}x{width} image failed: {describe(error)}'
        ) from error


def blank_features(
    model: nn.Module, role: str, paths: Iterable[str], shape: ImageShape
) -> Tuple[Dict[str, List[Tensor]], Dict[str, int]]:
    """Path to a model's features of a blank image, and path to the number of calls behind them."""
    image, samples = blank_batch(shape)
    capture = FeatureCapture(model, paths, role=role)
    with undisturbed(model), blaming(role, image), capture as features:
        run_for_features(model, features, image, samples)
    return features, capture.calls


def first_accepted(shapes: Iterable[ImageShape], run: Callable[[ImageShape], Any]) -> Any:
    """What ``run`` yields for the first shape of images that it takes.

    Raises:
        ConfigError: If it takes none; that of the first.
    """
    errors = []
    for shape in shapes:
        try:
            return run(shape)
        except ConfigError as error:
            errors.append(error)
    raise errors[0]
