"""Running a model on made-up images, to see what it yields."""

import random
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmdiffkd.capture import FeatureCapture
from mmdiffkd.errors import ConfigError, describe
from mmdiffkd.models.hosts import run_for_features

ImageShape = Tuple[int, int, int]
"""Channels, height and width of a model's input."""

SIDES = (224, 384, 512, 256, 192, 448, 336, 640, 768, 1024, 128, 96, 64, 32)
"""Sides in pixels. Nearly all models accept the first; others have one fixed or a larger size."""

TRIAL_SIDE = 96
"""Side in pixels of the small images on which two versions of one model are compared."""

# Errors that images of another size do not avoid, and what torch says of a number of channels.
_OF_ANY_SIZE = (AttributeError, ImportError, KeyError, TypeError)
_CHANNELS = re.compile(r'to have \d+ channels, but got \d+ channels')


class ImageRefused(ConfigError):
    """An error of a dry forward that an image of another size may avoid."""


@dataclass
class ImageShapes:
    """Shapes of made-up images to try a model on, the most likely first.

    ``known`` is the shape of the training images, if it is known. Otherwise ``sample`` reads it off
    the data, after the usual shape was not accepted. ``channels`` is the usual number of channels.
    """

    channels: int
    known: Optional[ImageShape]
    sample: Callable[[], Optional[ImageShape]]

    def __iter__(self) -> Iterator[ImageShape]:
        usual, *others = [(self.channels, side, side) for side in SIDES]
        # Large images would take longer than the usual ones.
        if self.known is not None and self.known[1] * self.known[2] <= usual[1] * usual[2]:
            yield self.known
        yield usual
        likely = self.sample() if self.known is None else self.known
        yield from others if likely is None else [likely, *others]


def blank_batch(shape: ImageShape, number: int = 1) -> Tuple[Tensor, List[BaseDataElement]]:
    """Blank images, (number, C, H, W), and their data samples."""
    keys = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    metainfo = dict(dict.fromkeys(keys, tuple(shape[1:])), scale_factor=(1.0, 1.0))
    samples = [BaseDataElement(metainfo=metainfo) for _ in range(number)]
    return torch.zeros(number, *shape), samples


def random_batch(shape: ImageShape, number: int) -> Tuple[Tensor, List[BaseDataElement]]:
    """The same images of noise every time, (number, C, H, W), and their data samples."""
    images, samples = blank_batch(shape, number)
    return images.normal_(generator=torch.Generator().manual_seed(0)), samples


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the random states of Python, NumPy and PyTorch afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; modes and random states are restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), random_state_kept():
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
        problem = 'the dry forward of a blank {}x{} image failed'.format(*image.shape[-2:])
        kind = ConfigError if isinstance(error, _OF_ANY_SIZE) else ImageRefused
        raise kind(f'{where}: {problem}: {describe(error)}') from error


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
    """The result of ``run`` for the first shape without :class:`ImageRefused`, or the first error.

    Shapes with a number of channels that a convolution did not accept are left out.
    """
    first, wrong = None, set()
    for shape in shapes:
        if shape[0] in wrong:
            continue
        try:
            return run(shape)
        except ImageRefused as error:
            first = first or error
            if _CHANNELS.search(str(error.__cause__)):
                wrong.add(shape[0])
    raise first
