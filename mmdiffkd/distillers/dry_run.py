"""Run a model once on a blank image, to see what it yields."""

from contextlib import contextmanager
from typing import List, Tuple

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from .build import ConfigError

IMAGE_SIDES = (224, 384, 512)
"""Sides in pixels to try. Nearly all models take the first; others are made for one size only, or
need larger ones."""


def blank_batch(side: int) -> Tuple[Tensor, List[BaseDataElement]]:
    """One blank image, (1, 3, side, side), and a data sample with what host models read of it."""
    size = (side, side)
    sample = BaseDataElement(
        metainfo=dict(
            img_shape=size,
            ori_shape=size,
            pad_shape=size,
            batch_input_shape=size,
            scale_factor=(1.0, 1.0),
        )
    )
    return torch.zeros(1, 3, *size), [sample]


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
            f'{where}: the dry forward of a blank {height}x{width} image failed: {error}'
        ) from error
