"""A miniature ADE20K (scene parsing benchmark): the real layout and ids; synthetic pictures."""

from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple, Union

from mmdiffkd.testing.making import (
    build_splits,
    check_classes,
    check_range,
    check_size,
    picture_rng,
    write_image,
)
from mmdiffkd.testing.scenes import (
    Ground,
    deal_labels,
    draw_regions,
    label_map,
    smallest_size,
    vary_size,
)

GROUNDS = {
    'wall': Ground(0.5, (170, 200, 215)),
    'floor': Ground(0.4, (45, 80, 125)),
    'other': Ground(0.1, (128, 128, 128)),
}
"""What the ground shows, from top to bottom."""

CATEGORY_SHAPES = {
    'ball': 'disc',
    'painting': 'square',
    'tent': 'triangle',
    'flower': 'star',
    'plate': 'ring',
    'airplane': 'cross',
    'box': 'hexagon',
    'clock': 'gear',
}
"""The categories of objects that can occur, and the shape that stands for each."""

CATEGORY_IDS = {
    'other': 0,
    'wall': 1,
    'floor': 4,
    'painting': 23,
    'box': 42,
    'flower': 67,
    'airplane': 91,
    'tent': 115,
    'ball': 120,
    'plate': 143,
    'clock': 149,
}
"""The values of the categories that can occur in the annotations of ADE20K, of 0..150."""

_FOLDERS = dict(train='training', val='validation')
_MIN_SIDE = 32
_IGNORED = 255


def make_mini_ade20k(
    root: Union[str, Path],
    num_train: int = 8,
    num_val: int = 4,
    image_size: Tuple[int, int] = (128, 96),
    num_classes: int = 5,
    max_objects: int = 5,
    seed: int = 0,
    classes: Optional[Sequence[str]] = None,
    reduce_zero_label: bool = True,
    labels: Optional[Sequence[int]] = None,
) -> Path:
    """Write a small synthetic segmentation data set in the layout of ADE20K's benchmark.

    ``root`` stands for the folder ``ADEChallengeData2016`` and receives, numbered from 1::

        images/training/ADE_train_00000001.jpg         annotations/training/ADE_train_00000001.png
        images/validation/ADE_val_00000001.jpg         annotations/validation/ADE_val_00000001.png

    An annotation has one channel of 8 bits and the size of its picture. Its values are ADE20K's
    own: 0 is none of the categories, 1..150 are the categories in the order of the benchmark;
    those of :data:`CATEGORY_IDS` occur. Every picture shows wall and floor, a strip of 0, and
    objects whose shape is their category.

    The same arguments give the same data, and a picture does not depend on how many there are.
    A data set that is there already is reused.

    Args:
        root: Directory to make, by mmseg's default ``data/ade/ADEChallengeData2016``.
        num_train: Number of training pictures, at least 1.
        num_val: Number of validation pictures, at least 1.
        image_size: Largest width and height in pixels; pictures are up to 8 % smaller.
        num_classes: How many categories of objects occur: the first ones of
            :data:`CATEGORY_SHAPES`, 1 to 8.
        max_objects: Most objects in a picture; every picture has at least one.
        seed: Any non-negative integer.
        classes: Class names of other data in this layout, 1 to 254. Wall and floor become the
            first class, the shapes are dealt out to the others.
        reduce_zero_label: How annotations count, as mmseg's option of this name. True: 0 is none
            of the classes and i + 1 is class i. False: i is class i and 255 none of them.
        labels: Which of ``classes`` occur, as their numbers from 0 on; None for all.

    Returns:
        ``root`` as an absolute path.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` holds other data, which is never overwritten.
    """
    check_range('num_classes', num_classes, 1, len(CATEGORY_SHAPES))
    check_range('max_objects', max_objects, 1, 50)
    names = check_classes(classes, 254)
    size = check_size(image_size, smallest_size(_MIN_SIDE))
    scene = dict(
        image_size=size,
        num_classes=num_classes,
        max_objects=max_objects,
        seed=seed,
        classes=names,
        reduce_zero_label=reduce_zero_label,
    )
    if labels is not None:
        scene['labels'] = list(labels)
    return build_splits(root, 'ade20k', num_train, num_val, scene, partial(_write_split, scene))


def _write_split(scene: Dict[str, Any], directory: Path, split: str, count: int) -> Iterator[None]:
    """Write the pictures and the annotations of one split; yield after each picture."""
    categories = list(CATEGORY_SHAPES)[: scene['num_classes']]
    kinds = [CATEGORY_SHAPES[name] for name in categories]
    occurring = scene.get('labels', range(len(scene['classes'] or ())))
    labels = _labels(occurring, scene['reduce_zero_label'])
    for number in range(1, count + 1):
        rng = picture_rng(scene['seed'], split, number)
        size = vary_size(rng, scene['image_size'])
        picture, regions = draw_regions(rng, size, GROUNDS, kinds, scene['max_objects'])
        place = f'{_FOLDERS[split]}/ADE_{split}_{number:08d}'
        write_image(directory / f'images/{place}.jpg', picture)
        write_image(directory / f'annotations/{place}.png', label_map(size, regions, labels))
        yield


def _labels(occurring: Sequence[int], reduce_zero_label: bool) -> Dict[str, int]:
    """The value in the annotations of each ground and each kind of shape."""
    if not occurring:
        labels = {CATEGORY_SHAPES.get(name, name): id_ - 1 for name, id_ in CATEGORY_IDS.items()}
    else:
        dealt = deal_labels(['wall', 'floor'], list(CATEGORY_SHAPES.values()), len(occurring))
        labels = {name: occurring[number] for name, number in dealt.items()}
    if reduce_zero_label:
        return {**{name: label + 1 for name, label in labels.items()}, 'other': 0}
    return {**labels, 'other': _IGNORED}
