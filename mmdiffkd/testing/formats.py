"""Synthetic data in the format of a data set of mmdet, mmseg or mmpretrain.

Each function asks a data set, built with ``lazy_init=True``, for its places and class names.
"""

import json
import pickle
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np
from mmengine.dataset import BaseDataset

from mmdiffkd.testing.drawing import OUTLINES, Shape, draw_picture

# The categories of COCO that the shapes stand for, if the data set has them.
_COCO_NAMES = ('sports ball', 'laptop', 'pizza', 'kite', 'donut')
_IGNORED = 255


class Pictures(NamedTuple):
    """The pictures of one split: their numbers, largest width and height in pixels, and seed."""

    numbers: Iterable[int]
    image_size: Tuple[int, int]
    seed: int = 0

    def draw(self, number: int, **options: Any) -> Tuple[np.ndarray, list]:
        """One picture and its objects, see :func:`draw_picture`."""
        return draw_picture(number, self.image_size, self.seed, **options)

    def draw_class(self, index: int, number: int) -> np.ndarray:
        """One picture that shows one large object of the kind ``index``."""
        return self.draw(number, kinds=[index], max_objects=1, radius=(0.3, 0.46))[0]


def write_boxes(dataset: BaseDataset, pictures: Pictures) -> None:
    """Write boxes and polygons in COCO's format, for mmdet's ``CocoDataset``.

    If ``data_prefix`` has ``seg``, label maps of the objects go there. A ``proposal_file`` proposes
    the boxes of the objects.
    """
    classes = _class_names(dataset)
    labels = [
        classes.index(name) if name in classes else kind % len(classes)
        for kind, name in enumerate(_COCO_NAMES)
    ]
    images, annotations = [], []
    for number in pictures.numbers:
        image, shapes = pictures.draw(number)
        name = f'{number:012d}'
        _write_image(Path(dataset.data_prefix['img'], f'{name}.jpg'), image)
        height, width = image.shape[:2]
        images.append(dict(id=number, file_name=f'{name}.jpg', width=width, height=height))
        for index, shape in enumerate(shapes):
            place = dict(id=100 * number + index, image_id=number, iscrowd=0)
            category = dict(category_id=labels[shape.kind] + 1)
            annotations.append({**place, **category, **_outline(shape.polygon)})
        if 'seg' in dataset.data_prefix:
            small = [label % _IGNORED for label in labels]  # LVIS has more, but no label maps
            label_map = _label_map(image, shapes, _IGNORED, small)
            _write_image(Path(dataset.data_prefix['seg'], f'{name}.png'), label_map)
    categories = [dict(id=index, name=name) for index, name in enumerate(classes, 1)]
    content = dict(info={}, images=images, annotations=annotations, categories=categories)
    _new_file(dataset.ann_file).write_text(json.dumps(content))
    if getattr(dataset, 'proposal_file', None):
        _write_proposals(dataset, content)


def _by_image(content: Dict) -> Iterator[Tuple[Dict, List[Dict]]]:
    """The images in COCO's ``content``, each with its annotations."""
    for image in content['images']:
        yield image, [one for one in content['annotations'] if one['image_id'] == image['id']]


def _write_proposals(dataset: BaseDataset, content: Dict) -> None:
    """Write the boxes in COCO's ``content`` as mmdet's proposals."""
    folder, proposals = Path(dataset.data_prefix['img']).name, {}
    for image, objects in _by_image(content):
        boxes = np.array([one['bbox'] for one in objects], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        scores = np.ones(len(boxes), np.float32)
        proposals[f'{folder}/{image["file_name"]}'] = dict(bboxes=boxes, scores=scores)
    Path(dataset.data_root, dataset.proposal_file).write_bytes(pickle.dumps(proposals))


def write_segments(dataset: BaseDataset, pictures: Pictures) -> None:
    """Write segments in COCO's panoptic format, for mmdet's ``CocoPanopticDataset``.

    The ground is of the last class, which is stuff.
    """
    write_boxes(dataset, pictures)
    file = Path(dataset.ann_file)
    content, annotations = json.loads(file.read_text()), []
    for category in content['categories']:
        category['isthing'] = int(category['name'] in dataset.metainfo['thing_classes'])
    for image, segments in _by_image(content):
        size, name = (image['width'], image['height']), f'{Path(image["file_name"]).stem}.png'
        ground = dict(id=1, category_id=len(content['categories']), iscrowd=0)
        ground.update(bbox=[0, 0, *size], area=size[0] * size[1])
        ids = np.full(size[::-1], ground['id'])
        for one in segments:
            polygon = np.reshape(one['segmentation'], (-1, 2))
            ids[Shape(0, polygon).mask(size) > 0.5] = one['id']
        # The digits of an id to the base of 256, in OpenCV's order.
        colours = np.stack([ids >> 16, ids >> 8, ids], axis=2).astype(np.uint8)
        _write_image(Path(dataset.data_prefix['seg'], name), colours)
        segments.append(ground)
        annotations.append(dict(image_id=image['id'], file_name=name, segments_info=segments))
    file.write_text(json.dumps(dict(content, annotations=annotations)))


def write_keypoints(dataset: BaseDataset, pictures: Pictures) -> None:
    """Write an object per picture, with points on its outline, in COCO's format for mmpose."""
    write_boxes(dataset, pictures)
    file, number = Path(dataset.ann_file), dataset.metainfo['num_keypoints']
    content = json.loads(file.read_text())
    # mmpose trains on each object by itself.
    content['annotations'] = [objects[0] for _, objects in _by_image(content)]
    for one in content['annotations']:
        outline = np.reshape(one['segmentation'], (-1, 2))
        points = outline[np.linspace(0, len(outline) - 1, number).round().astype(int)]
        visible = np.full((number, 1), 2)
        keypoints = np.concatenate([points, visible], axis=1).ravel().tolist()
        one.update(keypoints=keypoints, num_keypoints=number, category_id=1)
    file.write_text(json.dumps(content))


def write_rotated_boxes(dataset: BaseDataset, pictures: Pictures) -> None:
    """Write the corners of rotated boxes in DOTA's format, for mmrotate's ``DOTADataset``."""
    classes = np.resize(_class_names(dataset), len(OUTLINES))
    for number in pictures.numbers:
        image, shapes = pictures.draw(number)
        name = f'{number:012d}'
        _write_image(Path(dataset.data_prefix['img_path'], f'{name}.{dataset.img_suffix}'), image)
        lines = []
        for shape in shapes:
            corners = cv2.boxPoints(cv2.minAreaRect(shape.polygon.astype(np.float32)))
            numbers = ' '.join(f'{value:.1f}' for value in corners.ravel())
            lines.append(f'{numbers} {classes[shape.kind]} 0\n')
        _new_file(Path(dataset.ann_file, f'{name}.txt')).write_text(''.join(lines))


def _outline(polygon: np.ndarray) -> Dict:
    """Polygon, box and area of an object as COCO writes them."""
    left, top = polygon.min(0)
    right, bottom = polygon.max(0)
    x, y = polygon.T
    area = abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
    return dict(
        segmentation=[polygon.ravel().tolist()],
        area=round(area, 4),
        bbox=[round(float(v), 2) for v in (left, top, right - left, bottom - top)],
    )


def write_label_maps(dataset: BaseDataset, pictures: Pictures) -> None:
    """Write pictures, label maps and their list, for data sets of mmseg.

    The ground is the first of the classes that the data set uses, and the objects are the others.
    """
    if dataset.label_map is None:
        labels = [*range(len(_class_names(dataset)))]
    else:  # a selection of the classes
        labels = [old for old, new in dataset.label_map.items() if new != _IGNORED]
    labels = [label + bool(dataset.reduce_zero_label) for label in labels]
    ground, *others = labels
    of_kind = np.resize(others or labels, len(OUTLINES))
    names = [f'{number:012d}' for number in pictures.numbers]
    for number, name in zip(pictures.numbers, names):
        image, shapes = pictures.draw(number)
        label_map = _label_map(image, shapes, ground, of_kind)
        prefix = dataset.data_prefix
        _write_image(Path(prefix['img_path'], f'{name}{dataset.img_suffix}'), image)
        _write_image(Path(prefix['seg_map_path'], f'{name}{dataset.seg_map_suffix}'), label_map)
    if dataset.ann_file:
        _new_file(dataset.ann_file).write_text('\n'.join(names) + '\n')


def write_folder(dataset: BaseDataset, pictures: Pictures) -> None:
    """Write pictures and the list of their labels, for mmpretrain's ``CustomDataset``."""
    num_classes = min(len(_class_names(dataset)), len(OUTLINES))
    lines = []
    for number in pictures.numbers:
        label = number % num_classes
        name = f'{label}/{number:08d}.JPEG'
        image = pictures.draw_class(label, number)
        _write_image(Path(dataset.data_prefix['img_path'], name), image)
        lines.append(f'{name} {label}\n' if dataset.with_label else f'{name}\n')
    _new_file(dataset.ann_file).write_text(''.join(lines))


def write_cifar(dataset: BaseDataset, pictures: Pictures) -> None:
    """Write the pickled files of CIFAR-100 for Python, and those of the other split if missing."""
    classes = _class_names(dataset)
    labels = [number % min(len(classes), len(OUTLINES)) for number in pictures.numbers]
    images = [
        cv2.resize(pictures.draw_class(label, number), (32, 32))
        for label, number in zip(labels, pictures.numbers)
    ]
    data = np.stack(images).transpose(0, 3, 1, 2).reshape(len(images), -1)
    content = pickle.dumps(dict(data=data, fine_labels=labels), protocol=2)
    folder = Path(dataset.data_prefix['root'], dataset.base_folder)
    for split, files in (('train', dataset.train_list), ('test', dataset.test_list)):
        for name, _ in files:
            if split == dataset.split or not (folder / name).exists():
                _new_file(folder / name).write_bytes(content)
    meta = pickle.dumps({dataset.meta['key']: classes}, protocol=2)
    _new_file(folder / dataset.meta['filename']).write_bytes(meta)


def _class_names(dataset: BaseDataset) -> list:
    """Names of the classes; two for data whose folders would tell."""
    names = dataset.metainfo.get('classes') or ('first', 'second')
    # COCO's tools take a single name as it is.
    return [names] if isinstance(names, str) else list(names)


def _label_map(image: np.ndarray, shapes: list, ground: int, labels: Sequence[int]) -> np.ndarray:
    """The label of each pixel, (H, W) uint8; ``labels`` are those of the kinds of shapes."""
    height, width = image.shape[:2]
    result = np.full((height, width), ground, np.uint8)
    for shape in shapes:
        result[shape.mask((width, height)) > 0.5] = labels[shape.kind]
    return result


def _write_image(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(_new_file(path)), image):
        raise OSError(f'cannot write {path}')


def _new_file(path: Any) -> Path:
    """The path of a file whose directory is there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
