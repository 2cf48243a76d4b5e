"""A miniature CIFAR-100: the real file format and class names; synthetic pictures."""

import pickle
import struct
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from mmdiffkd.testing.cifar100_categories import CIFAR100_CLASSES, CIFAR100_SUPERCLASSES
from mmdiffkd.testing.making import build_splits, check_classes, check_range, picture_rng
from mmdiffkd.testing.scenes import draw_class

_SIDE = 32


def make_mini_cifar100(
    root: Union[str, Path],
    num_train: int = 64,
    num_val: int = 32,
    num_classes: int = 10,
    seed: int = 0,
    classes: Optional[Sequence[str]] = None,
) -> Path:
    """Write a small synthetic classification data set in the format of CIFAR-100 for Python.

    ``root`` receives ``cifar-100-python/train``, ``test`` and ``meta``, each a pickled dict as
    Python 2 wrote them, so that keys and names are ``str`` or ``bytes`` by the ``encoding`` they
    are loaded with ('latin1' or 'bytes'):

    - ``train``, ``test``: ``data``, (N, 3072) uint8: 1024 red, then green, then blue values, row
      by row; the lists ``fine_labels`` (0..99), ``coarse_labels`` (0..19) and ``filenames``; the
      string ``batch_label``.
    - ``meta``: ``fine_label_names`` and ``coarse_label_names``.

    The check sums are of course not those of CIFAR-100, and mmpretrain's ``CIFAR100`` (and
    torchvision's) refuses all other files: **an unmodified config would download the real data
    over the miniature**. Set the type of the data sets to
    ``mmdiffkd.datasets.cifar100.UnverifiedCIFAR100``.

    The classes that occur take turns and tell themselves apart by a shape and a tint. The same
    arguments give the same data, and a picture does not depend on how many there are. A data set
    that is there already is reused.

    Args:
        root: Directory to make, by mmpretrain's default ``data/cifar100``.
        num_train: Number of training pictures, at least 1.
        num_val: Number of test pictures, at least 1.
        num_classes: How many of the 100 classes occur: the first ones by name, 1 to 100. Without
            effect if ``classes`` are given.
        seed: Any non-negative integer.
        classes: Class names to use instead of CIFAR's 100, 1 to 10000; class i has label i, and
            all have the coarse class 0, 'none'.

    Returns:
        ``root`` as an absolute path.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` holds other data, which is never overwritten.
    """
    check_range('num_classes', num_classes, 1, len(CIFAR100_CLASSES))
    scene = dict(num_classes=num_classes, seed=seed, classes=check_classes(classes, 10_000))
    return build_splits(root, 'cifar100', num_train, num_val, scene, partial(_write_split, scene))


def _write_split(scene: Dict[str, Any], directory: Path, split: str, count: int) -> Iterator[None]:
    """Write the file of one split, and ``meta``; yield after each picture."""
    fine_names, coarse_names, coarse_of = _names(scene['classes'])
    occurring = len(fine_names) if scene['classes'] else scene['num_classes']
    kind = dict(train='training', val='testing')[split]
    fine_labels = [index % occurring for index in range(count)]
    data = np.empty((count, 3 * _SIDE**2), np.uint8)
    for index, label in enumerate(fine_labels):
        picture = draw_class(picture_rng(scene['seed'], split, index), (_SIDE, _SIDE), label)
        data[index] = picture.transpose(2, 0, 1).ravel()
        yield
    content = dict(
        filenames=[f'{fine_names[label]}_s_{i:06d}.png' for i, label in enumerate(fine_labels)],
        batch_label=f'{kind} batch 1 of 1',
        fine_labels=fine_labels,
        coarse_labels=[coarse_of[label] for label in fine_labels],
        data=data,
    )
    folder = directory / 'cifar-100-python'
    folder.mkdir(exist_ok=True)
    _dump(folder / dict(train='train', val='test')[split], content)
    _dump(folder / 'meta', dict(fine_label_names=fine_names, coarse_label_names=coarse_names))


def _names(classes: Optional[Sequence[str]]) -> Tuple[List[str], List[str], List[int]]:
    """Names of classes, names of superclasses, and the superclass of each class."""
    if classes is not None:
        return list(classes), ['none'], [0] * len(classes)
    coarse = list(CIFAR100_SUPERCLASSES)
    of_name = {
        name: coarse.index(group) for group in coarse for name in CIFAR100_SUPERCLASSES[group]
    }
    return CIFAR100_CLASSES, coarse, [of_name[name] for name in CIFAR100_CLASSES]


class _Python2Pickler(pickle._Pickler):
    """Writes text as the byte strings that Python 2 called ``str``."""

    dispatch = dict(pickle._Pickler.dispatch)

    def _save_string(self, value: Union[str, bytes]) -> None:
        raw = value if isinstance(value, bytes) else value.encode()
        self.write(pickle.BINSTRING + struct.pack('<i', len(raw)) + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = _save_string


def _dump(path: Path, content: Dict[str, Any]) -> None:
    with path.open('wb') as file:
        _Python2Pickler(file, protocol=2).dump(content)
