"""Miniatures of well-known data sets: the real layout and class list, and synthetic pictures."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Tuple, Union

from mmengine.registry import DATASETS

from mmdiffkd.compat import is_installed
from mmdiffkd.errors import ConfigError, check_numbers
from mmdiffkd.testing import formats
from mmdiffkd.testing.drawing import MIN_SIDE

_MARKER = 'mini_dataset.json'
# Number of the first validation picture; that of the first training picture is 1.
_FIRST_OF_VAL = 500_001

# The function that writes a split; the settings that the libraries' configs have for both splits,
# for training and for validation.
_DATA_SETS = dict(
    coco=(
        formats.write_boxes,
        dict(type='mmdet.CocoDataset'),
        dict(ann_file='annotations/instances_train2017.json', data_prefix=dict(img='train2017')),
        dict(ann_file='annotations/instances_val2017.json', data_prefix=dict(img='val2017')),
    ),
    ade20k=(
        formats.write_label_maps,
        dict(type='mmseg.ADE20KDataset'),
        dict(data_prefix=dict(img_path='images/training', seg_map_path='annotations/training')),
        dict(data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation')),
    ),
    cityscapes=(
        formats.write_label_maps,
        dict(type='mmseg.CityscapesDataset'),
        dict(data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train')),
        dict(data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')),
    ),
    imagenet=(
        formats.write_folder,
        dict(type='mmpretrain.ImageNet'),
        dict(ann_file='meta/train.txt', data_prefix='train'),
        dict(ann_file='meta/val.txt', data_prefix='val'),
    ),
    cifar100=(
        formats.write_cifar,
        dict(type='mmdiffkd.datasets.cifar100.UnverifiedCIFAR100'),
        dict(split='train'),
        dict(split='test'),
    ),
)
MINI_DATA_SETS = tuple(sorted(_DATA_SETS))
"""Names of the data sets that :func:`make_mini_dataset` can make."""


def make_mini_dataset(
    name: str,
    root: Union[str, Path],
    num_train: int = 8,
    num_val: int = 4,
    image_size: Tuple[int, int] = (128, 96),
    seed: int = 0,
) -> Path:
    """Write a small synthetic data set in the layout of a real one.

    Configs of the host libraries for this data set run on it unchanged, except those of CIFAR-100,
    whose type must be ``mmdiffkd.datasets.cifar100.UnverifiedCIFAR100``. The class of an object,
    of its pixels or of a picture is one of five shapes. The same arguments give the same data.

    Args:
        name: 'coco' (needs mmdet), 'ade20k' or 'cityscapes' (mmseg), 'imagenet' or 'cifar100'
            (mmpretrain).
        root: Directory to fill: missing, empty, or made with the same arguments before.
        num_train: Number of training pictures.
        num_val: Number of validation pictures.
        image_size: Largest width and height in pixels; pictures are up to 8 % smaller, those of
            CIFAR-100 are 32 x 32.
        seed: Seed of the pictures, not negative.

    Returns:
        ``root`` as an absolute path.
    """
    check_numbers(1, int, num_train=num_train, num_val=num_val)
    check_numbers(0, int, seed=seed)
    check_numbers(MIN_SIDE, int, image_size=min(image_size))
    if name not in MINI_DATA_SETS:
        raise ConfigError(f'name must be one of {", ".join(MINI_DATA_SETS)}, got {name!r}')
    write_split, common, *splits = _DATA_SETS[name]
    library = common['type'].partition('.')[0]
    if not is_installed(library):
        raise ConfigError(f'{name} needs {library}, which is not installed')

    def write(directory: Path) -> None:
        for split, first, count in zip(splits, (1, _FIRST_OF_VAL), (num_train, num_val)):
            pictures = formats.Pictures(range(first, first + count), image_size, seed)
            where = dict(data_root=str(directory), lazy_init=True)
            write_split(DATASETS.build({**common, **split, **where}), pictures)

    arguments = dict(name=name, image_size=image_size, seed=seed, version=2)
    return build_once(root, dict(arguments, num_train=num_train, num_val=num_val), write)


def build_once(
    root: Union[str, Path], arguments: Dict[str, Any], write: Callable[[Path], None]
) -> Path:
    """Fill the directory ``root`` with ``write``, unless the same data is there already.

    The data is written beside ``root`` and moved there when complete. ``arguments``, which
    determine the data, are kept in ``root/mini_dataset.json``. Returns the absolute path.
    """
    root = Path(root).expanduser().resolve()
    text = json.dumps(arguments, indent=2) + '\n'
    if (root / _MARKER).is_file() and (root / _MARKER).read_text() == text:
        return root
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        what = 'perhaps a miniature made with other arguments; delete it or choose another path'
        raise ConfigError(f'{root} exists and holds other data, {what}')
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{root.name}-', dir=root.parent) as partial:
        data = Path(partial, 'data')
        data.mkdir()
        write(data)
        (data / _MARKER).write_text(text)
        os.replace(data, root)
    return root
