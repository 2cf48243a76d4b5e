"""A miniature Cityscapes: the real layout, names and ids; synthetic pictures."""

import json
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from mmdiffkd.testing.making import (
    build_splits,
    check_classes,
    check_range,
    check_size,
    picture_rng,
    write_image,
)
from mmdiffkd.testing.scenes import Ground, Region, deal_labels, draw_regions, label_map


class CategoryId(NamedTuple):
    """The two numbers of a category."""

    label: int
    """In ``_gtFine_labelIds.png``: all categories, 0..33."""
    train: int
    """In ``_gtFine_labelTrainIds.png``: the evaluated categories, 0..18, or 255."""


GROUNDS = {
    'sky': Ground(1.0, (180, 130, 70)),
    'building': Ground(1.0, (70, 70, 90)),
    'vegetation': Ground(0.8, (35, 142, 107)),
    'sidewalk': Ground(0.8, (232, 120, 200)),
    'road': Ground(1.0, (110, 100, 110)),
    'ego vehicle': Ground(0.4, (30, 30, 30)),
}
"""What the ground shows, from top to bottom."""

CATEGORY_SHAPES = {
    'car': 'disc',
    'truck': 'square',
    'person': 'triangle',
    'rider': 'star',
    'bicycle': 'ring',
    'bus': 'cross',
    'motorcycle': 'hexagon',
    'train': 'gear',
}
"""The categories of objects that can occur, and the shape that stands for each."""

CATEGORY_IDS = {
    'ego vehicle': CategoryId(1, 255),
    'road': CategoryId(7, 0),
    'sidewalk': CategoryId(8, 1),
    'building': CategoryId(11, 2),
    'vegetation': CategoryId(21, 8),
    'sky': CategoryId(23, 10),
    'person': CategoryId(24, 11),
    'rider': CategoryId(25, 12),
    'car': CategoryId(26, 13),
    'truck': CategoryId(27, 14),
    'bus': CategoryId(28, 15),
    'train': CategoryId(31, 16),
    'motorcycle': CategoryId(32, 17),
    'bicycle': CategoryId(33, 18),
}
"""The ids of the categories that can occur."""

# Pictures take turns, so that the numbers of a city have gaps.
_CITIES = dict(train=('aachen', 'bremen'), val=('frankfurt', 'lindau'))
_MIN_SIDE = 32
_IGNORED = 255


def make_mini_cityscapes(
    root: Union[str, Path],
    num_train: int = 8,
    num_val: int = 2,
    image_size: Tuple[int, int] = (256, 64),
    num_classes: int = 5,
    max_objects: int = 5,
    seed: int = 0,
    classes: Optional[Sequence[str]] = None,
) -> Path:
    """Write a small synthetic segmentation data set in the layout of Cityscapes.

    ``root`` receives, for ``train`` (cities aachen, bremen) and ``val`` (frankfurt, lindau)::

        leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png
        gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png
        gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png
        gtFine/train/aachen/aachen_000000_000019_gtFine_polygons.json

    and empty folders ``leftImg8bit/test`` and ``gtFine/test``. The annotations have one channel
    of 8 bits and the size of their picture: ``labelTrainIds`` holds 0..18 and 255, as mmseg
    reads it, ``labelIds`` the ids that Cityscapes' own tools evaluate, ``polygons`` what both
    are made from. All pictures have the same size. The default pictures are flat and wide
    because the usual resize to (2048, 1024) then stays cheap. Every picture shows a street in
    front of the bonnet (which is not evaluated), and objects whose shape is their category.

    The same arguments give the same data, and a picture does not depend on how many there are.
    A data set that is there already is reused.

    Args:
        root: Directory to make, by mmseg's default ``data/cityscapes``.
        num_train: Number of training pictures, at least 1.
        num_val: Number of validation pictures, at least 1.
        image_size: Width and height in pixels.
        num_classes: How many categories of objects occur: the first ones of
            :data:`CATEGORY_SHAPES`, 1 to 8.
        max_objects: Most objects in a picture; every picture has at least one.
        seed: Any non-negative integer.
        classes: Class names of other data in this layout, 1 to 255. ``labelTrainIds`` then
            holds i for class i and 255: the street becomes the first class, the shapes are dealt
            out to the others. The other two files, which only hold Cityscapes' own classes, are
            left out. For mmseg's ``CityscapesDataset`` with a selection of its classes leave
            this ``None``: it selects by itself.

    Returns:
        ``root`` as an absolute path.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` holds other data, which is never overwritten.
    """
    check_range('num_classes', num_classes, 1, len(CATEGORY_SHAPES))
    check_range('max_objects', max_objects, 1, 50)
    names = check_classes(classes, 255)
    size = check_size(image_size, _MIN_SIDE)
    scene = dict(
        image_size=size,
        num_classes=num_classes,
        max_objects=max_objects,
        seed=seed,
        classes=names,
    )
    return build_splits(root, 'cityscapes', num_train, num_val, scene, partial(_write_split, scene))


def _write_split(scene: Dict[str, Any], directory: Path, split: str, count: int) -> Iterator[None]:
    """Write the pictures and the annotations of one split; yield after each picture."""
    category_of = {shape: name for name, shape in CATEGORY_SHAPES.items()}
    kinds = list(category_of)[: scene['num_classes']]
    size = scene['image_size']
    for kind in ('leftImg8bit', 'gtFine'):
        (directory / kind / 'test').mkdir(parents=True, exist_ok=True)
    for index in range(count):
        rng = picture_rng(scene['seed'], split, index)
        picture, regions = draw_regions(rng, size, GROUNDS, kinds, scene['max_objects'])
        regions = [Region(category_of.get(r.name, r.name), r.polygon) for r in regions]
        city = _CITIES[split][index % 2]
        place = f'{split}/{city}/{city}_{index:06d}_000019'
        write_image(directory / f'leftImg8bit/{place}_leftImg8bit.png', picture)
        _write_annotations(f'{directory}/gtFine/{place}_gtFine', size, regions, scene['classes'])
        yield


def _write_annotations(
    stem: str, size: Tuple[int, int], regions: List[Region], classes: Optional[Sequence[str]]
) -> None:
    """Write the files whose paths start with ``stem``; regions are named by their category."""
    if classes is not None:
        street = [name for name in GROUNDS if name != 'ego vehicle']
        labels = deal_labels(street, list(CATEGORY_SHAPES), len(classes))
        labels['ego vehicle'] = _IGNORED
        write_image(Path(f'{stem}_labelTrainIds.png'), label_map(size, regions, labels))
        return
    for suffix, field in (('labelTrainIds', 'train'), ('labelIds', 'label')):
        labels = {name: getattr(ids, field) for name, ids in CATEGORY_IDS.items()}
        write_image(Path(f'{stem}_{suffix}.png'), label_map(size, regions, labels))
    objects = [
        dict(label=region.name, polygon=region.polygon.round().astype(int).tolist())
        for region in regions
    ]
    content = dict(imgHeight=size[1], imgWidth=size[0], objects=objects)
    Path(f'{stem}_polygons.json').write_text(json.dumps(content))
