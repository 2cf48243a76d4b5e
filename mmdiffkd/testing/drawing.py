"""Synthetic pictures of geometric shapes on a noisy ground, with the exact outlines.

The class of an object is its shape; its colour, size, angle and place are random.
"""

import math
from typing import List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

MIN_SIDE = 36
"""Smallest width and height of a picture; mmdet's ``min_size=32`` would leave out smaller ones."""


class Shape(NamedTuple):
    """An object in a picture: its index in ``OUTLINES``, and its outline, (K, 2) x, y in pixels."""

    kind: int
    polygon: np.ndarray

    def mask(self, size: Tuple[int, int]) -> np.ndarray:
        """Coverage of each pixel, (H, W) float32 in 0..1; ``size`` is the width and height."""
        # OpenCV widens a filled polygon by half a pixel, which a finer grid makes negligible.
        fine, bits = 4, 4
        canvas = np.zeros((size[1] * fine, size[0] * fine), np.uint8)
        # OpenCV counts from the centres of pixels, COCO from their corners.
        points = np.round((self.polygon * fine - 0.5) * (1 << bits)).astype(np.int32)
        cv2.fillPoly(canvas, [points], 255, shift=bits)
        return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _regular(corners: int, radii: Sequence[float] = (1.0,)) -> np.ndarray:
    """(K, 2) points at equal angles, at distances that repeat ``radii``."""
    angles = np.arange(corners) * (2 * math.pi / corners)
    distance = np.resize(np.asarray(radii), corners)
    return np.stack([distance * np.cos(angles), distance * np.sin(angles)], axis=1)


_DISC = _regular(24)
_CLOSED_DISC = np.concatenate([_DISC, _DISC[:1]])

OUTLINES = (
    _DISC,
    _regular(4),
    _regular(3),
    _regular(10, (1.0, 0.45)),
    np.concatenate([_CLOSED_DISC, 0.5 * _CLOSED_DISC[::-1]]),
)
"""Disc, square, triangle, star and ring: (K, 2), centred, the farthest point at distance 1."""


def draw_picture(
    number: int,
    image_size: Tuple[int, int],
    seed: int = 0,
    kinds: Sequence[int] = range(len(OUTLINES)),
    max_objects: int = 5,
    radius: Tuple[float, float] = (0.13, 0.34),
) -> Tuple[np.ndarray, List[Shape]]:
    """Draw one picture, (H, W, 3) uint8, with objects whose boxes do not overlap.

    Args:
        number: Number of the picture in its data set.
        image_size: Largest width and height in pixels. Pictures are up to 8 % smaller, so that
            batches need padding.
        seed: Seed of the data set.
        kinds: Kinds of shapes to choose from, as indices in ``OUTLINES``.
        max_objects: Largest number of objects; each picture has at least one.
        radius: Smallest and largest radius of an object, as a fraction of the shorter side.
    """
    rng = np.random.default_rng([seed, number])
    width, height = (int(round(side * rng.uniform(0.92, 1))) for side in image_size)
    num_objects = int(rng.integers(1, max_objects + 1))
    image = _draw_ground(rng, (width, height))
    shapes = _place_shapes(rng, (width, height), kinds, num_objects, radius)
    for shape in shapes:
        mask = shape.mask((width, height))[..., None]
        under = (image * mask).sum((0, 1)) / mask.sum()
        colour = rng.uniform(10, 245, 3)
        while np.abs(colour - under).max() < 60:
            colour = rng.uniform(10, 245, 3)
        image += mask * (colour.astype(np.float32) - image)
    image += rng.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), shapes


def _draw_ground(rng: np.random.Generator, size: Tuple[int, int]) -> np.ndarray:
    """Soft coloured clouds and a few strokes, (H, W, 3) float32."""
    width, height = size
    image = np.full((height, width, 3), rng.uniform(60, 195, 3), np.float32)
    for cells, strength in ((3, 28), (12, 14)):
        grid = rng.normal(0, strength, (cells, 2 * cells, 3)).astype(np.float32)
        image += cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(2, 6)):
        start, end = rng.integers(0, size, 2).tolist(), rng.integers(0, size, 2).tolist()
        cv2.line(image, start, end, rng.uniform(20, 235, 3).tolist(), int(rng.integers(1, 4)))
    return image


def _place_shapes(
    rng: np.random.Generator,
    size: Tuple[int, int],
    kinds: Sequence[int],
    num_objects: int,
    radius: Tuple[float, float],
) -> List[Shape]:
    """Objects inside the picture, with boxes at least two pixels apart."""
    shapes: List[Shape] = []
    boxes = np.zeros((0, 4))
    for _ in range(20 * num_objects):
        reach = rng.uniform(*radius) * min(size)
        centre = rng.uniform(reach + 1, np.asarray(size) - reach - 1)
        angle = rng.uniform(0, 2 * math.pi)
        kind = kinds[rng.integers(len(kinds))]
        cos, sin = math.cos(angle), math.sin(angle)
        polygon = reach * OUTLINES[kind] @ np.array([[cos, sin], [-sin, cos]]) + centre
        low, high = polygon.min(0) - 1, polygon.max(0) + 1
        if ((boxes[:, :2] > high).any(1) | (boxes[:, 2:] < low).any(1)).all():
            boxes = np.concatenate([boxes, [[*low, *high]]])
            shapes.append(Shape(kind, np.round(polygon, 2)))
        if len(shapes) == num_objects:
            break
    return shapes
