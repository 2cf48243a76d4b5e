"""Finds out what data transforms and a data preprocessor do to pixels, by giving them images.

Images of one colour stay so whatever a transform does to their shape, so that a few colours tell
how pixels are normalised, whichever part does it.
"""

import copy
import random
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from mmengine.registry import DATASETS, TRANSFORMS
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmdiffkd.models.dry_run import ImageShape, random_state_kept
from mmdiffkd.models.preprocessing import InputFormat

# Far enough apart for rounding to whole numbers, and in an order that tells BGR from RGB.
_COLOURS = ((50, 100, 200), (100, 200, 50), (200, 50, 100))
# Height and width of the images, and of one more that shows whether all get the same size.
_SIZE, _OTHER_SIZE = (96, 128), (128, 96)
# Largest error of a colour, out of 255, by rounding.
_ROUNDING = 1.0


class Probe(NamedTuple):
    """The batches that a model gets.

    The ``format`` says how pixels become input, if that is a linear function. It ``is_known`` if
    the data transforms are known, or if the preprocessor normalises, so that it gets plain pixels.
    ``shape`` (channels, height, width) is None if the size varies, and ``channels`` if a sample is
    no single image. ``rgb`` says whether the data set's pixels are in RGB order.
    """

    format: Optional[InputFormat]
    is_known: bool
    shape: Optional[ImageShape]
    channels: Optional[int]
    rgb: bool


def pipeline_of(dataset: Any) -> Optional[List[Dict]]:
    """The data transforms of a data set's config, those of a wrapped data set first, or None."""
    if not isinstance(dataset, dict):
        return None
    inner = dataset.get('dataset') or next(iter(dataset.get('datasets') or ()), None)
    known = [part for part in (pipeline_of(inner), dataset.get('pipeline')) if part is not None]
    return sum(map(list, known), []) if known else None


def probe(
    pipeline: Optional[Sequence[Dict]],
    preprocessor: Optional[nn.Module],
    channels: int,
    rgb: bool = False,
) -> Probe:
    """Find out what data transforms and the data preprocessor of a model make of images.

    ``pipeline`` and ``preprocessor`` are None if there is none, or if it is not known. Without a
    pipeline, ``rgb`` says whether the pixels of the data set are in RGB order.
    """
    try:
        transforms = [TRANSFORMS.build(transform) for transform in pipeline or ()]
    except Exception as error:
        # The data set itself will raise if the run uses these transforms.
        print_log(f'The data transforms cannot be built: {error}', 'current')
        pipeline, transforms = None, []
    colours = np.array([np.resize(colour, channels) for colour in _COLOURS], np.float64)
    with random_state_kept(), tempfile.TemporaryDirectory() as folder:
        kinds = [*((colour, _SIZE) for colour in colours), (colours[0], _OTHER_SIZE)]
        images = [_image(Path(folder), *kind) for kind in kinds]
        if transforms:
            # Data sets that hold their pixels, as CIFAR, have them in RGB; files are read as BGR.
            rgb = channels == 3 and not any(_loads(t, images[0]) for t in transforms)
        if rgb:
            images = [dict(image, img=image['img'][..., ::-1]) for image in images]
        for transform in transforms:
            images = _transformed(images, transform)
        inputs = [_pixels(image) for image in images]
        if preprocessor is not None and all(isinstance(x, Tensor) for x in inputs):
            # Some preprocessors write into the data samples of images that they pad.
            samples = [image.get('data_samples', BaseDataElement()) for image in images]
            batches = [dict(inputs=[x], data_samples=[s]) for x, s in zip(inputs, samples)]
            inputs = [preprocessor(batch, False)['inputs'][0] for batch in batches]
    if not all(isinstance(x, Tensor) and x.dim() == 3 for x in inputs):
        return Probe(None, False, None, None, rgb)
    found = _colours(inputs[:-1])
    pad_value = getattr(preprocessor, 'pad_value', 0)
    form = None if found is None else _fit(colours, found, pad_value)
    is_known = form is not None and (pipeline is not None or form.normalises)
    first, *_, other = [tuple(x.shape) for x in inputs]
    return Probe(form, is_known, first if first == other else None, first[0], rgb)


def sample_shape(data: Optional[Dict], preprocessor: nn.Module) -> Optional[ImageShape]:
    """Shape of the first image of a data loader's config after the data preprocessor, or None."""
    dataset = (data or {}).get('dataset')
    if not dataset:
        return None
    try:
        with random_state_kept():
            dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
            batch = preprocessor(pseudo_collate([dataset[0]]), False)
    except Exception as error:
        # The data loader will raise if files are missing.
        print_log(f'No image size could be read off the training data: {error!r}', 'current')
        return None
    image = (batch['inputs'] if isinstance(batch, dict) else batch[0])[0]
    return tuple(image.shape) if image.dim() == 3 else None


def _loads(transform: Callable, image: Dict) -> bool:
    """Whether a transform reads images from files; others raise a KeyError without an image."""
    try:
        return 'img' in transform({key: value for key, value in image.items() if key != 'img'})
    except Exception as error:
        return not (isinstance(error, KeyError) and error.args == ('img',))


def _image(folder: Path, colour: np.ndarray, size: Tuple[int, int]) -> Dict:
    """An image as data sets of the hosts describe it, with one object that fills it."""
    height, width = size
    image = np.broadcast_to(colour.astype(np.uint8), (*size, len(colour))).copy()
    labels, path = (str(folder / f'{kind}{height}_{colour[0]:.0f}.png') for kind in 'li')
    cv2.imwrite(labels, np.zeros(size, np.uint8))
    if len(colour) in (1, 3, 4):
        cv2.imwrite(path, image)
    outline = [[0, 0, width, 0, width, height, 0, height]]
    instance = dict(bbox=[0, 0, width, height], bbox_label=0, ignore_flag=0, mask=outline)
    return dict(
        img=image, img_path=path, img_shape=size, ori_shape=size, height=height, width=width,
        img_id=0, sample_idx=0, instances=[instance], gt_label=0, seg_fields=[],
        seg_map_path=labels, label_map=None, reduce_zero_label=False,
    )  # fmt: skip


def _transformed(images: Sequence[Dict], transform: Callable) -> Sequence[Dict]:
    """The images after a transform; unchanged if it augments colours or fails on single images."""
    outcomes, colours = [], []
    try:
        # A transform whose colours depend on the seed is an augmentation.
        for seed in range(4):
            outcome = []
            for image in images:
                _seed(seed)
                outcome.append(transform(copy.deepcopy(image)))
            pixels = [_pixels(image) for image in outcome[:2]]
            if not isinstance(pixels[0], Tensor):
                return outcome
            found = _colours(pixels)
            if found is not None:
                outcomes.append(outcome)
                colours.append(found)
    except Exception:
        # A mosaic, for one, needs several images. Transforms that normalise do not.
        return images
    same = all(np.array_equal(found, colours[0]) for found in colours)
    return outcomes[0] if outcomes and same else images


def _seed(seed: int) -> None:
    """Seed the generators that transforms use. torch.manual_seed would seed GPUs as well."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)


def _pixels(image: Dict) -> Any:
    """An image as (C, H, W), or the several images in its place."""
    value = image['inputs'] if 'inputs' in image else image['img']
    if isinstance(value, (Tensor, list, tuple, dict)):
        return value
    return torch.from_numpy(np.atleast_3d(np.asarray(value)).transpose(2, 0, 1).copy())


def _colours(images: Sequence[Tensor]) -> Optional[np.ndarray]:
    """The colours of images (C, H, W) of one size outside the padding, (images, C), or None."""
    if len({image.shape for image in images}) > 1:
        return None
    pixels = torch.stack([image.flatten(1).cpu() for image in images])
    # Some ten thousand pixels are enough to see a colour.
    pixels = pixels[..., :: 1 + pixels.shape[-1] // 10_000].double()
    # Padding is the same in all images, and at the same place because of the same seed.
    inside = (pixels[0] != pixels[1]).all(0)
    return pixels[..., inside].median(2).values.numpy() if inside.any() else None


def _fit(colours: np.ndarray, found: np.ndarray, pad_value: float) -> Optional[InputFormat]:
    """The linear function from ``colours`` to ``found``, both (images, C), if there is one."""
    # A loader may have left out channels, such as transparency.
    colours = colours[:, : found.shape[1]]
    for rgb in (False, True) if found.shape[1] == 3 else (False,):
        given = colours[:, ::-1] if rgb else colours
        if given.shape != found.shape or not (found[1] - found[0]).all():
            continue
        std = (given[1] - given[0]) / (found[1] - found[0])
        mean = given[0] - found[0] * std
        if (np.abs(given - mean - found * std) <= _ROUNDING).all():
            return InputFormat.from_numbers(mean, std, rgb, pad_value)
    return None
