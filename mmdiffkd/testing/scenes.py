"""Pictures whose content tells their class, or the class of each pixel."""

import colorsys
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from mmdiffkd.testing.shapes import OUTLINES, draw_scene, shape_mask

_SHRINK = 0.92
# How far the ground of a class is moved towards the colour of the class.
_GROUND_TINT = 0.6
_PICTURE_TINT = 0.35


class Ground(NamedTuple):
    """A part of the ground, which reaches across the picture."""

    share: float
    """Of the picture's height, relative to the other parts."""
    colour: Tuple[int, int, int]
    """Blue, green, red, 0..255."""


class Region(NamedTuple):
    """A part of a picture; later ones of a list lie on top of earlier ones."""

    name: str
    """Of the ground or the kind of shape."""
    polygon: np.ndarray
    """(K, 2) outline as x, y in pixels; pixel i covers [i, i + 1]."""


def smallest_size(side: int) -> int:
    """The least ``image_size`` for which :func:`vary_size` keeps to at least ``side`` pixels."""
    return int(side / _SHRINK) + 1


def vary_size(rng: np.random.Generator, image_size: Sequence[int]) -> Tuple[int, int]:
    """Width and height up to 8 % smaller than given, so that batches need padding."""
    width, height = (int(round(side * rng.uniform(_SHRINK, 1))) for side in image_size)
    return width, height


def draw_regions(
    rng: np.random.Generator,
    size: Tuple[int, int],
    grounds: Mapping[str, Ground],
    kinds: Sequence[str],
    max_objects: int,
) -> Tuple[np.ndarray, List[Region]]:
    """Draw shapes on a ground of tinted bands, from top to bottom in the order given.

    Args:
        rng: Source of all randomness.
        size: Width and height in pixels.
        grounds: The bands by name.
        kinds: Shapes to choose from, keys of ``OUTLINES``.
        max_objects: Most shapes; there is at least one.

    Returns:
        The picture, (H, W, 3) uint8, and its regions, which cover it: bands first, then shapes.
    """
    image, shapes = draw_scene(rng, size, kinds, int(rng.integers(1, max_objects + 1)))
    objects = [Region(shape.kind, shape.polygon) for shape in shapes]
    free = np.ones(image.shape[:2], np.float32)
    for region in objects:
        free = np.minimum(free, 1 - shape_mask(size, region.polygon))
    bands = _bands(rng, size, grounds)
    for band in bands:
        mask = shape_mask(size, band.polygon) * free
        image = _tint(image, grounds[band.name].colour, _GROUND_TINT * mask)
    return image, bands + objects


def label_map(
    size: Tuple[int, int], regions: Sequence[Region], labels: Mapping[str, int]
) -> np.ndarray:
    """The label of the topmost region at each pixel: (H, W) uint8, for a size of W, H."""
    result = np.zeros(size[::-1], np.uint8)
    for region in regions:
        result[shape_mask(size, region.polygon) > 0.5] = labels[region.name]
    return result


def deal_labels(grounds: Sequence[str], kinds: Sequence[str], num_classes: int) -> Dict[str, int]:
    """Labels 0..``num_classes`` - 1: the ground is the first, the shapes share the others."""
    labels = dict.fromkeys(grounds, 0)
    for number, kind in enumerate(kinds):
        labels[kind] = 1 + number % (num_classes - 1) if num_classes > 1 else 0
    return labels


def draw_class(rng: np.random.Generator, size: Tuple[int, int], look: int) -> np.ndarray:
    """One picture of a class, (H, W, 3) uint8.

    Shape and tint tell the class. ``look`` is any integer from 0 on; shapes repeat every eight,
    hues never but become alike.
    """
    kinds = list(OUTLINES)
    image, _ = draw_scene(rng, size, [kinds[look % len(kinds)]], 1, radius=(0.3, 0.46))
    # Steps of the golden ratio keep any number of hues as far apart as can be.
    hue = look * 0.618034 % 1
    colour = [round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 1, 1)]
    return _tint(image, colour, np.full(image.shape[:2], _PICTURE_TINT, np.float32))


def _bands(
    rng: np.random.Generator, size: Tuple[int, int], grounds: Mapping[str, Ground]
) -> List[Region]:
    """Rectangles across the picture, their heights near the shares."""
    width, height = size
    shares = np.array([ground.share for ground in grounds.values()])
    shares = np.cumsum(shares * rng.uniform(0.7, 1.3, len(shares)))
    borders = [0, *np.round(height * shares / shares[-1]).astype(int).tolist()]
    return [
        Region(name, np.array([[0, top], [width, top], [width, bottom], [0, bottom]], float))
        for name, top, bottom in zip(grounds, borders[:-1], borders[1:])
        if bottom > top
    ]


def _tint(image: np.ndarray, colour: Sequence[int], strength: np.ndarray) -> np.ndarray:
    """Move an (H, W, 3) uint8 image towards a colour, by (H, W) strengths of 0..1."""
    towards = np.asarray(colour, np.float32) - image
    return np.round(image + strength[..., None] * towards).astype(np.uint8)
