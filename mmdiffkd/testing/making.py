"""What the makers of all miniature data sets share: range checks, progress, writing pictures."""

import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from mmengine.utils import ProgressBar

from mmdiffkd.errors import ConfigError
from mmdiffkd.testing.dataset_dir import build_once

MAX_PICTURES = 500_000
"""Most pictures in one split."""

MAX_SIDE = 4096
"""Largest width or height of a picture in pixels."""

MAX_SEED = 2**32 - 1
"""Largest seed of the pictures."""

# Written into every data set; a new number makes data sets of older versions "other data".
_VERSION = 1

# Takes a directory, 'train' or 'val', and the number of pictures; yields after each picture.
_WriteSplit = Callable[[Path, str, int], Iterator[None]]


def check_range(name: str, value: int, low: int, high: int) -> None:
    """Raise a ``ValueError`` that names the argument unless ``low <= value <= high``."""
    if not low <= value <= high:
        raise ConfigError(f'{name} must be in {low}..{high}, got {value}')


def check_size(image_size: Tuple[int, int], smallest_side: int) -> Tuple[int, int]:
    """Check a width and height in pixels against ``smallest_side``..:data:`MAX_SIDE`."""
    width, height = image_size
    for side in (width, height):
        check_range('image_size', side, smallest_side, MAX_SIDE)
    return width, height


def check_classes(classes: Optional[Sequence[str]], most: int) -> Optional[list]:
    """Class names as a list of 1..``most``; ``None`` stays ``None``."""
    if classes is None:
        return None
    check_range('number of classes', len(classes), 1, most)
    return list(classes)


def build_splits(
    root: Union[str, Path],
    dataset: str,
    num_train: int,
    num_val: int,
    scene: Dict[str, Any],
    write_split: _WriteSplit,
) -> Path:
    """Make a data set of a 'train' and a 'val' split under ``root``, unless it is there already.

    Args:
        root: Directory to make, as :func:`build_once` takes it.
        dataset: Name of the kind of data set.
        num_train: Number of training pictures, 1..:data:`MAX_PICTURES`.
        num_val: Number of validation pictures, 1..:data:`MAX_PICTURES`.
        scene: All else that determines the pictures, as JSON values; among them ``seed``.
        write_split: Called with a directory, the split and the number of its pictures; writes
            them below the directory and yields after each.

    Returns:
        ``root`` as an absolute path.

    Raises:
        ValueError: A number of pictures or the seed is out of range.
        FileExistsError: ``root`` holds other data, which is never overwritten.
    """
    counts = dict(num_train=num_train, num_val=num_val)
    for name, count in counts.items():
        check_range(name, count, 1, MAX_PICTURES)
    check_range('seed', scene['seed'], 0, MAX_SEED)

    def write(directory: Path) -> None:
        # In a log file the bar would be one line of many kilobytes.
        progress = ProgressBar(num_train + num_val) if sys.stdout.isatty() else None
        for split, count in (('train', num_train), ('val', num_val)):
            for _ in write_split(directory, split, count):
                if progress:
                    progress.update()
        if progress:
            print()  # the bar leaves the cursor on its line

    return build_once(root, dict(dataset=dataset, version=_VERSION, **counts, **scene), write)


def picture_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The randomness of one picture, whatever the size of its data set."""
    return np.random.default_rng([seed, ('train', 'val').index(split), index])


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) BGR or (H, W) uint8 in the format of the suffix; makes the directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image):
        raise OSError(f'cannot write {path}')
