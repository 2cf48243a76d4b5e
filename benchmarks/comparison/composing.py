"""Digits on photographs, as data sets for classification, detection and segmentation."""

import json
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
SPLITS = ('train', 'test')
# Shares of the digits of each class.
SHARES = dict(train=0.6, test=0.4)
# Of a digit's picture and of a scene, in pixels.
DIGIT_SIZE, SCENE_SIZE = 32, 96
MAX_TRIES = 20


class Digits(NamedTuple):
    """Written digits.

    Attributes:
        strokes: Opacity of each, from 0 to 255, (H, W).
        labels: The digits, from 0 to 9, (N,).
    """

    strokes: Sequence[np.ndarray]
    labels: np.ndarray

    def part(self, split: str, seed: int) -> 'Digits':
        """Those of a split: a share of each digit, other ones than in other splits."""
        kept: List[int] = []
        rng = np.random.RandomState(seed)  # its numbers never change
        for label in np.unique(self.labels):
            order = rng.permutation(np.flatnonzero(self.labels == label))
            ends = np.round(np.cumsum(list(SHARES.values())) * len(order)).astype(int)
            kept += list(np.split(order, ends[:-1])[SPLITS.index(split)])
        return Digits([self.strokes[i] for i in kept], self.labels[kept])

    def draw(
        self, rng: np.random.RandomState, smallest: int, largest: int
    ) -> Tuple[np.ndarray, int]:
        """A random one, resized to a random side in pixels, and its label."""
        index = rng.randint(len(self.labels))
        side = rng.randint(smallest, largest + 1)
        strokes = cv2.resize(self.strokes[index], (side, side), interpolation=cv2.INTER_LINEAR)
        return strokes, int(self.labels[index])


class Scene(NamedTuple):
    """A composed picture.

    Attributes:
        image: (H, W, 3) in BGR.
        boxes: x, y, width and height of each object.
        labels: Class of each object.
        label_map: Class + 1 of every pixel, 0 for the background, (H, W). A digit's pixels are
            those of the convex hull of its strokes.
    """

    image: np.ndarray
    boxes: List[List[int]]
    labels: List[int]
    label_map: np.ndarray


def background(
    rng: np.random.RandomState, photographs: Sequence[np.ndarray], size: int
) -> np.ndarray:
    """A square piece of a photograph at a random place, scale and reflection."""
    photograph = photographs[rng.randint(len(photographs))]
    side = rng.randint(size, min(3 * size, *photograph.shape[:2]) + 1)
    top, left = (rng.randint(length - side + 1) for length in photograph.shape[:2])
    piece = photograph[top : top + side, left : left + side]
    piece = cv2.resize(piece, (size, size), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(piece[:, :: rng.choice([-1, 1])])


def paste(
    rng: np.random.RandomState, canvas: np.ndarray, strokes: np.ndarray, left: int, top: int
) -> None:
    """Draw strokes (h, w) on a picture (H, W, 3), in a colour that differs from what is there."""
    height, width = strokes.shape
    area = canvas[top : top + height, left : left + width]
    colour = (area.mean((0, 1)) + rng.randint(64, 193, 3)) % 256
    opacity = strokes[..., None] / 255
    area[:] = np.round(opacity * colour + (1 - opacity) * area)


def digit_picture(
    rng: np.random.RandomState, photographs: Sequence[np.ndarray], digits: Digits
) -> Tuple[np.ndarray, int]:
    """A digit on a photograph, and its label."""
    canvas = background(rng, photographs, DIGIT_SIZE)
    strokes, label = digits.draw(rng, 20, DIGIT_SIZE)
    left, top = rng.randint(DIGIT_SIZE - len(strokes) + 1, size=2)
    paste(rng, canvas, strokes, left, top)
    return canvas, label


def compose_scene(
    rng: np.random.RandomState, photographs: Sequence[np.ndarray], digits: Digits
) -> Scene:
    """Up to five digits of random sizes on a photograph, which overlap little."""
    canvas = background(rng, photographs, SCENE_SIZE)
    label_map = np.zeros(canvas.shape[:2], np.uint8)
    boxes: List[List[int]] = []
    labels: List[int] = []
    for _ in range(rng.randint(1, 6)):
        strokes, label = digits.draw(rng, 24, 56)
        written = cv2.findNonZero((strokes > 127).astype(np.uint8))
        x, y, width, height = cv2.boundingRect(written)
        for _ in range(MAX_TRIES):
            left, top = (int(i) for i in rng.randint(SCENE_SIZE - len(strokes) + 1, size=2))
            box = [left + x, top + y, width, height]
            if not any(overlap(box, other) > 0.1 for other in boxes):
                paste(rng, canvas, strokes, left, top)
                cv2.fillConvexPoly(label_map, cv2.convexHull(written) + (left, top), label + 1)
                boxes.append(box)
                labels.append(label)
                break
    return Scene(canvas, boxes, labels, label_map)


def overlap(a: Sequence[int], b: Sequence[int]) -> float:
    """Area that two boxes share, as a share of the smaller box."""
    sides = [min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i]) for i in (0, 1)]
    return max(sides[0], 0) * max(sides[1], 0) / min(a[2] * a[3], b[2] * b[3])


def random_state(seed: int, split: str, index: int) -> np.random.RandomState:
    """The random numbers of one picture."""
    return np.random.RandomState([seed, SPLITS.index(split), index])


def write_digits(
    root: Path, split: str, count: int, photographs: List[np.ndarray], digits: Digits, seed: int
) -> None:
    """Write ``<root>/<split>/<digit>/<index>.png``."""
    for index in range(count):
        image, label = digit_picture(random_state(seed, split, index), photographs, digits)
        write_image(root / split / str(label) / f'{index:06d}.png', image)


def write_scenes(
    root: Path,
    split: str,
    count: int,
    photographs: List[np.ndarray],
    digits: Digits,
    seed: int,
) -> None:
    """Write images, annotations of boxes in COCO's format and label maps of a split.

    They are ``images/<split>/<index>.png``, ``annotations/<split>.json`` and
    ``label_maps/<split>/<index>.png`` in ``root``.
    """
    images: List[Dict] = []
    annotations: List[Dict] = []
    for index in range(count):
        scene = compose_scene(random_state(seed, split, index), photographs, digits)
        name = f'{index:06d}.png'
        write_image(root / 'images' / split / name, scene.image)
        write_image(root / 'label_maps' / split / name, scene.label_map)
        images.append(dict(id=index, file_name=name, width=SCENE_SIZE, height=SCENE_SIZE))
        for box, label in zip(scene.boxes, scene.labels):
            ids = dict(id=len(annotations) + 1, image_id=index, category_id=label + 1)
            annotations.append(dict(ids, bbox=box, area=box[2] * box[3], iscrowd=0))
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    path = root / 'annotations' / f'{split}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
