"""Small pictures of geometric shapes on noisy ground, with exact outlines.

The class of an object is its shape; colour, size, angle and place are random. All functions draw
from the ``numpy.random.Generator`` they are given and from nothing else.
"""

import math
from typing import Dict, List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np


class PlacedShape(NamedTuple):
    """One object of a picture."""

    kind: str
    """A key of :data:`OUTLINES`."""
    polygon: np.ndarray
    """(K, 2) outline as x, y in pixels; pixel i covers [i, i + 1]."""


def _regular(corners: int, radii: Sequence[float] = (1.0,)) -> np.ndarray:
    """Points at equal angles, at distances that repeat ``radii``: polygons, discs, stars."""
    angles = np.arange(corners) * (2 * math.pi / corners)
    distance = np.resize(np.asarray(radii), corners)
    return np.stack([distance * np.cos(angles), distance * np.sin(angles)], axis=1)


def _ring(corners: int = 24, hole: float = 0.5) -> np.ndarray:
    """A disc with a hole, as one closed line: around, inwards, around the hole backwards."""
    around = _regular(corners)
    around = np.concatenate([around, around[:1]])
    return np.concatenate([around, hole * around[::-1]])


def _cross(arm: float = 0.33) -> np.ndarray:
    """A plus sign whose arms are ``2 * arm`` wide."""
    quarter = np.array([[1, -arm], [1, arm], [arm, arm]])
    turn = np.array([[0, 1], [-1, 0]])
    turns = [quarter @ np.linalg.matrix_power(turn, i) for i in range(4)]
    return np.concatenate(turns) / math.hypot(1, arm)


OUTLINES: Dict[str, np.ndarray] = {
    'disc': _regular(24),
    'square': _regular(4),
    'triangle': _regular(3),
    'star': _regular(10, (1.0, 0.45)),
    'ring': _ring(),
    'cross': _cross(),
    'hexagon': _regular(6),
    'gear': _regular(16, (1.0, 1.0, 0.7, 0.7)),
}
"""Outlines by name, each (K, 2), centred, the farthest point at distance 1."""


def polygon_area(polygon: np.ndarray) -> float:
    """Area in square pixels that a closed (K, 2) outline encloses."""
    x, y = polygon[:, 0], polygon[:, 1]
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def draw_scene(
    rng: np.random.Generator,
    size: Tuple[int, int],
    kinds: Sequence[str],
    num_objects: int,
    radius: Tuple[float, float] = (0.13, 0.34),
) -> Tuple[np.ndarray, List[PlacedShape]]:
    """Draw one picture.

    Args:
        rng: Source of all randomness.
        size: Width and height in pixels.
        kinds: Shapes to choose from, keys of :data:`OUTLINES`.
        num_objects: How many shapes to place. Boxes never overlap, so a crowded picture may end
            up with fewer, but never with none.
        radius: Smallest and largest distance from an object's centre to its farthest point, as
            a fraction of the shorter side.

    Returns:
        The picture, (H, W, 3) uint8, and its objects in the order they were placed.
    """
    image = _background(rng, size)
    shapes = _place(rng, size, kinds, num_objects, radius)
    for shape in shapes:
        _paint(rng, image, shape.polygon)
    image += rng.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), shapes


def shape_mask(size: Tuple[int, int], polygon: np.ndarray) -> np.ndarray:
    """Rasterise an outline: (H, W) float32 in 0..1 with smooth edges; ``size`` is W, H."""
    # OpenCV widens what it fills by half a pixel; on a finer grid that is next to nothing.
    fine = 4
    canvas = np.zeros((size[1] * fine, size[0] * fine), np.uint8)
    bits = 4
    # OpenCV counts from pixel centres, COCO polygons from pixel corners.
    points = np.round((polygon * fine - 0.5) * (1 << bits)).astype(np.int32)
    cv2.fillPoly(canvas, [points], 255, shift=bits)
    return cv2.resize(canvas, tuple(size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _background(rng: np.random.Generator, size: Tuple[int, int]) -> np.ndarray:
    """Soft coloured clouds and a few strokes, (H, W, 3) float32."""
    width, height = size
    image = np.full((height, width, 3), rng.uniform(60, 195, 3), np.float32)
    for cells, strength in ((3, 28), (12, 14)):
        grid = rng.normal(0, strength, (cells, 2 * cells, 3)).astype(np.float32)
        image += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(2, 6)):
        start, end = rng.integers(0, size, 2), rng.integers(0, size, 2)
        cv2.line(
            image,
            start.tolist(),
            end.tolist(),
            rng.uniform(20, 235, 3).tolist(),
            int(rng.integers(1, 4)),
        )
    return image


def _place(
    rng: np.random.Generator,
    size: Tuple[int, int],
    kinds: Sequence[str],
    num_objects: int,
    radius: Tuple[float, float],
) -> List[PlacedShape]:
    """Outlines inside the picture, with boxes at least two pixels apart."""
    shapes: List[PlacedShape] = []
    boxes = np.zeros((0, 4))
    for _ in range(20 * num_objects):
        reach = rng.uniform(*radius) * min(size)
        centre = rng.uniform(reach + 1, np.asarray(size) - reach - 1)
        angle = rng.uniform(0, 2 * math.pi)
        kind = kinds[rng.integers(len(kinds))]
        cos, sin = math.cos(angle), math.sin(angle)
        polygon = reach * OUTLINES[kind] @ np.array([[cos, sin], [-sin, cos]]) + centre
        low, high = polygon.min(0) - 1, polygon.max(0) + 1
        apart = (boxes[:, :2] > high).any(1) | (boxes[:, 2:] < low).any(1)
        if apart.all():
            boxes = np.concatenate([boxes, [[*low, *high]]])
            shapes.append(PlacedShape(kind, np.round(polygon, 2)))
        if len(shapes) == num_objects:
            break
    return shapes


def _paint(rng: np.random.Generator, image: np.ndarray, polygon: np.ndarray) -> None:
    """Fill an outline, in place, in a colour that differs from what lies under it."""
    mask = shape_mask((image.shape[1], image.shape[0]), polygon)[..., None]
    under = (image * mask).sum((0, 1)) / mask.sum()
    colour = rng.uniform(10, 245, 3)
    while np.abs(colour - under).max() < 60:
        colour = rng.uniform(10, 245, 3)
    image += mask * (colour.astype(np.float32) - image)
