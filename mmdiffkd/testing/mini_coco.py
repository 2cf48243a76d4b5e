"""A miniature COCO 2017: the real layout, ids and names; synthetic pictures."""

import json
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from mmdiffkd.testing.coco_categories import COCO_CATEGORIES
from mmdiffkd.testing.making import MAX_PICTURES, build_splits, check_range, check_size, write_image
from mmdiffkd.testing.scenes import smallest_size, vary_size
from mmdiffkd.testing.shapes import draw_scene, polygon_area, shape_mask

CATEGORY_SHAPES = {
    'sports ball': 'disc',
    'laptop': 'square',
    'pizza': 'triangle',
    'kite': 'star',
    'donut': 'ring',
    'airplane': 'cross',
    'stop sign': 'hexagon',
    'clock': 'gear',
}
"""The categories that can occur, and the shape that stands for each."""

# mmdet's ``filter_cfg=dict(min_size=32)`` drops smaller pictures without a word.
_MIN_SIDE = 33
# Picture ids of one split start here, so that the splits share none.
_FIRST_ID = dict(train=1, val=MAX_PICTURES + 1)


def make_mini_coco(
    root: Union[str, Path],
    num_train: int = 8,
    num_val: int = 4,
    image_size: Tuple[int, int] = (384, 56),
    num_classes: int = 5,
    max_objects: int = 5,
    seed: int = 0,
    classes: Optional[Sequence[str]] = None,
) -> Path:
    """Write a small synthetic detection data set in the layout of COCO 2017.

    ``root`` receives ``annotations/instances_{train,val}2017.json`` and JPEG pictures in
    ``train2017/`` and ``val2017/``. The category list is COCO's own (80 names, their real ids);
    boxes, polygons and areas are exact, so unmodified detection and instance segmentation
    configs run on it. The default pictures are flat and wide because the usual resize to
    (1333, 800) then stays cheap.

    The same arguments give the same data, and a picture does not depend on how many there are.
    A data set that is there already is reused.

    Args:
        root: Directory to make.
        num_train: Number of training pictures, at least 1.
        num_val: Number of validation pictures, at least 1.
        image_size: Largest width and height in pixels; pictures are up to 8 % smaller.
        num_classes: How many of the 80 categories occur: the first ones of
            :data:`CATEGORY_SHAPES`, 1 to 8.
        max_objects: Most objects in a picture; every picture has at least one.
        seed: Any non-negative integer.
        classes: Category names to use instead of COCO's 80; the shapes are dealt out to them.

    Returns:
        ``root`` as an absolute path.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` holds other data, which is never overwritten.
    """
    check_range('num_classes', num_classes, 1, len(CATEGORY_SHAPES))
    check_range('max_objects', max_objects, 1, 50)
    scene = dict(
        image_size=check_size(image_size, smallest_size(_MIN_SIDE)),
        num_classes=num_classes,
        max_objects=max_objects,
        seed=seed,
        classes=None if classes is None else list(classes),
    )
    return build_splits(root, 'coco', num_train, num_val, scene, partial(_write_split, scene))


def write_stuff_maps(root: Path) -> None:
    """Add COCO-Stuff's label maps to a data set that :func:`make_mini_coco` has made.

    ``stuffthingmaps/{train,val}2017/*.png`` have the value of its category, its id less one, where
    an object is, and 255 (nothing labelled) elsewhere. Hybrid Task Cascade, for one, reads them.

    Args:
        root: Of the data set.
    """
    for split in ('train2017', 'val2017'):
        content = json.loads((root / 'annotations' / f'instances_{split}.json').read_text())
        for image in content['images']:
            size = image['width'], image['height']
            labels = np.full(size[::-1], 255, np.uint8)
            for instance in content['annotations']:
                if instance['image_id'] == image['id']:
                    outline = np.reshape(instance['segmentation'][0], (-1, 2))
                    labels[shape_mask(size, outline) > 0.5] = instance['category_id'] - 1
            name = Path(image['file_name']).with_suffix('.png')
            write_image(root / 'stuffthingmaps' / split / name, labels)


def _write_split(scene: Dict[str, Any], directory: Path, split: str, count: int) -> Iterator[None]:
    """Write the pictures and the annotation file of one split; yield after each picture."""
    images: List[dict] = []
    annotations: List[dict] = []
    for image_id in range(_FIRST_ID[split], _FIRST_ID[split] + count):
        picture, objects = _make_picture(image_id, **scene)
        name = f'{image_id:012d}.jpg'
        write_image(directory / f'{split}2017' / name, picture)
        height, width = picture.shape[:2]
        images.append(
            dict(
                license=1,
                file_name=name,
                coco_url='',
                height=height,
                width=width,
                date_captured='',
                flickr_url='',
                id=image_id,
            )
        )
        for number, instance in enumerate(objects):
            annotations.append(dict(instance, image_id=image_id, id=100 * image_id + number))
        yield
    content = dict(
        info=dict(description='miniature synthetic COCO 2017', version='1.0', year=2017),
        licenses=[dict(id=1, name='none', url='')],
        images=images,
        annotations=annotations,
        categories=_categories(scene['classes']),
    )
    target = directory / 'annotations' / f'instances_{split}2017.json'
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(content))


def _categories(classes: Optional[Sequence[str]]) -> List[dict]:
    if classes is None:
        return COCO_CATEGORIES
    return [dict(supercategory='none', id=i, name=name) for i, name in enumerate(classes, 1)]


def _make_picture(
    image_id: int,
    image_size: Tuple[int, int],
    num_classes: int,
    max_objects: int,
    seed: int,
    classes: Optional[Sequence[str]],
) -> Tuple[np.ndarray, List[dict]]:
    """One picture, (H, W, 3) uint8, and the annotations of its objects without ids."""
    # Seeding by picture keeps a picture the same whatever the size of its data set.
    rng = np.random.default_rng([seed, image_id])
    width, height = vary_size(rng, image_size)
    categories = list(CATEGORY_SHAPES)[:num_classes]
    of_shape = {CATEGORY_SHAPES[name]: name for name in categories}
    if classes is None:
        ids = {category['name']: category['id'] for category in COCO_CATEGORIES}
    else:
        ids = {name: i % len(classes) + 1 for i, name in enumerate(categories)}
    picture, shapes = draw_scene(
        rng, (width, height), list(of_shape), int(rng.integers(1, max_objects + 1))
    )
    objects = []
    for shape in shapes:
        left, top = shape.polygon.min(0)
        right, bottom = shape.polygon.max(0)
        objects.append(
            dict(
                segmentation=[shape.polygon.ravel().tolist()],
                area=round(polygon_area(shape.polygon), 4),
                iscrowd=0,
                bbox=[round(float(v), 2) for v in (left, top, right - left, bottom - top)],
                category_id=ids[of_shape[shape.kind]],
            )
        )
    return picture, objects
