"""Mistakes in data sets that only their files show, found before the first step of a training."""

import inspect
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any, Collection, Dict, Iterable, List, Optional, Set, Tuple

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import load
from mmengine.registry import DATASETS

from mmdiffkd.datasets.config_checks import class_counts, datasets_of
from mmdiffkd.datasets.file_checks import check_batch, check_files, load_files, spread
from mmdiffkd.errors import ConfigError, describe, shortened
from mmdiffkd.models.classes import dataset_class
from mmdiffkd.models.configs import dicts_in, student_config

# Annotation files of up to so many bytes are read a second time, which takes less than a second.
_SMALL = 50_000_000
# Images that are read, those whose labels are looked at, and label maps: so many pixels of them, or
# more maps if few have a class.
_FILES, _LABELS, _PIXELS, _MAPS = 8, 10_000, 50_000_000, 200


def check_data(cfg: Config, key: str, datasets: Iterable[Tuple[str, Any]]) -> None:
    """Check built data sets of the loader ``key`` of a config, and what its metrics read.

    ``datasets`` are pairs of a config key and a data set. Test data may have no annotations.
    """
    evaluator = key.replace('dataloader', 'evaluator')
    metrics = list(dicts_in(cfg.get(evaluator)))
    annotated = key != 'test_dataloader' and not any(part.get('format_only') for part in metrics)
    datasets = list(datasets)
    for where, dataset in datasets:
        # Those of videos count their images and return videos.
        if not isinstance(dataset, BaseDataset) or hasattr(dataset, 'get_len_per_video'):
            continue
        # Beside others a data set may have images without objects, as examples of none.
        needed = annotated and len(datasets) == 1
        _check_dataset(dataset, where, cfg.get('model'), annotated, needed)
        # Inside a wrapper a data set may yield only parts of what a model needs, and for a test
        # several forms of an image.
        if where == f'{key}.dataset' and key != 'test_dataloader':
            check_batch(cfg, key, dataset)
    paths = {part.get('ann_file') for part in metrics if not part.get('backend_args')} - {None}
    (where, dataset), *more = datasets or [('', None)]
    for path in paths if not more and hasattr(dataset, 'COCOAPI') else ():
        _check_images(path, where, dataset, f'{evaluator}.ann_file')


def read_and_check(cfg: Config, key: str, absent: Collection[str] = ()) -> None:
    """Build the data sets of a loader's config, except those at ``absent`` keys, and check them.

    A data set that cannot be built is a :class:`ConfigError`.
    """
    scope = cfg.get('default_scope')
    present = (pair for pair in datasets_of(cfg, key) if pair[0] not in absent)
    check_data(cfg, key, ((where, _build(part, where, scope)) for where, part in present))


def _build(config: Dict, where: str, scope: Optional[str]) -> Any:
    cls = dataset_class(config, scope)
    if not isinstance(cls, type) or not issubclass(cls, BaseDataset):
        return None
    try:
        with DATASETS.switch_scope_and_registry(config.get('_scope_', scope)) as registry:
            # mmengine cannot serialize a data set without images.
            parameters = inspect.signature(cls).parameters.values()
            names = {item.name for item in parameters if item.kind is not item.VAR_KEYWORD}
            takes = 'serialize_data' in names or len(names) < len(parameters)
            settings = dict(serialize_data=False) if takes else {}
            return registry.build(dict(config, **settings))
    except Exception as error:
        file = config.get('ann_file') or config.get('data_root')
        what = f'{where}: cannot build {cls.__name__} from {file!r}'
        raise ConfigError(f'{what}: {describe(error)}') from error


def _check_dataset(dataset: Any, where: str, model: Any, annotated: bool, needed: bool) -> None:
    """Raise :class:`ConfigError` for a data set that the config's ``model`` cannot learn from.

    Args:
        dataset: Data set of mmengine that has read its annotations.
        where: Its config key.
        model: Config of the run's model.
        annotated: Whether the data set has annotations.
        needed: Whether it must have objects of the classes.
    """
    if hasattr(dataset, 'cat_ids') and hasattr(dataset, 'COCOAPI') and (needed or dataset.cat_ids):
        _check_categories(dataset, where)
    number = len(dataset)
    if not number:
        raise ConfigError(f'{where}: there is no image in it{_why_empty(dataset)}')
    infos = [dataset.get_data_info(i) for i in spread(number, _FILES)]
    steps = {type(step).__name__: step for step in dataset.pipeline.transforms}
    loaded = [load_files(info, steps, where) for info in infos]
    check_files(dataset, steps, where)
    # Without classes, labels of a validation may be indices into a gallery.
    heads = class_counts(model).values() if where.startswith('train') else ()
    count = min(filter(None, [len(dataset.metainfo.get('classes') or ()), *heads]), default=0)
    is_loaded = annotated and 'LoadAnnotations' in steps
    if 'instances' in infos[0] and is_loaded:
        if needed:
            _check_objects(dataset, where)
        _check_boxes(dataset, loaded, where)
    elif 'reduce_zero_label' in infos[0] and is_loaded and count:
        ignored = {part.get('ignore_index') for part in dicts_in(student_config(model or {}))}
        load_map, few = dict(LoadAnnotations=steps['LoadAnnotations']), spread(number, _MAPS)
        others = (load_files(dataset.get_data_info(i), load_map, where) for i in few)
        maps = chain(loaded, others)
        _check_label_maps(dataset, maps, count, {dataset.ignore_index} | ignored, where)
    elif 'gt_label' in infos[0] and annotated and count:
        _check_labels(dataset, count, where)


def _check_images(path: str, where: str, dataset: Any, key: str) -> None:
    """Raise if a metric's file ``path`` has no image of the data set, such as one of a split."""
    if getattr(dataset, 'backend_args', None) or '://' in path or not Path(path).is_file():
        return
    if Path(path).samefile(dataset.ann_file):
        return
    known = {image['id'] for image in load(path).get('images', ())}
    infos = (dataset.get_data_info(i) for i in spread(len(dataset), _FILES))
    if not any(info['img_id'] in known for info in infos):
        what = f'{path!r} has none of the images of {where}, whose file is {dataset.ann_file!r}'
        raise ConfigError(f'{key}: {what}')


def _check_categories(dataset: Any, where: str) -> None:
    """Compare the class names with the categories of COCO's file.

    pycocotools leaves out names that the file does not have, and numbers the labels as the file
    does, in whatever order the names are listed.
    """
    classes, path = list(dataset.metainfo['classes']), dataset.ann_file
    if not Path(path).is_file():  # it is on another storage
        return
    few = len(dataset.cat_ids) < len(classes)
    if not few and Path(path).stat().st_size > _SMALL:
        return
    content = load(path)
    categories = {item['id']: item['name'] for item in content['categories']}
    images = Counter(image['id'] for image in content.get('images', ()))
    for number, count in images.most_common(1):
        if count > 1:
            what = f'{count} images have the id {number!r}; each needs one of its own'
            raise ConfigError(f'{where}: {path!r}: {what}')
    unknown = {item['category_id'] for item in content.get('annotations', ())} - categories.keys()
    if unknown:
        number = min(unknown, key=str)
        what = f'annotations have the category_id {number!r}, which is none of its categories'
        raise ConfigError(f'{where}: {path!r}: {what}: {shortened(str(categories), 200)}')
    names = [categories.get(number) for number in dataset.cat_ids]
    listed = shortened(', '.join(map(repr, categories.values())), 200)
    key = f'{where}.metainfo.classes'
    if missing := [name for name in classes if name not in names]:
        what = shortened(', '.join(map(repr, missing)), 100)
        raise ConfigError(f'{key}: {path!r} has no category {what}; its categories are {listed}')
    if names != classes:
        raise ConfigError(
            f'{key}: labels are numbered in the order of {path!r}; list them so: '
            f'{shortened(", ".join(map(repr, names)), 200)}'
        )


def _why_empty(dataset: Any) -> str:
    """What a message says about a data set without images."""
    path, suffix = dataset.ann_file, getattr(dataset, 'img_suffix', None)
    if suffix and not Path(path).is_file():
        folder = Path(dataset.data_prefix['img_path'])
        found = {file.suffix for file in folder.rglob('*') if file.is_file()}
        ends = f'files there end in {", ".join(sorted(found))}' if found else 'there are no files'
        return f': no file in {str(folder)!r} ends in img_suffix={suffix!r}; {ends}'
    listed = len(dataset.load_data_list())
    why = f'{path!r} lists {listed}, and filter_cfg={dataset.filter_cfg} leaves out all, as those'
    return f': {why} without an object of the classes' if listed else f': {path!r} lists none'


def _check_objects(dataset: Any, where: str) -> None:
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    if all(box.get('ignore_flag') for info in infos for box in info['instances']):
        raise ConfigError(
            f'{where}: {dataset.ann_file!r} has no box of the classes, or none of at least one '
            f'pixel inside its image that is not marked as iscrowd'
        )


def _check_boxes(dataset: Any, infos: List[Dict], where: str) -> None:
    for info in infos if hasattr(dataset, 'COCOAPI') else ():
        listed = info['height'], info['width']
        if info.get('img_shape', listed) != listed:
            raise ConfigError(
                f'{where}: {info["img_path"]!r} has the height and width {info["img_shape"]}, and '
                f'{dataset.ann_file!r} says {listed}'
            )
    boxes = [(box['bbox'], info) for info in infos for box in info['instances']]
    if hasattr(dataset, 'COCOAPI'):
        outside = [x > info['width'] + 1 or y > info['height'] + 1 for (*_, x, y), info in boxes]
        if sum(outside) > len(outside) / 2:
            raise ConfigError(
                f'{where}: most boxes of {dataset.ann_file!r} reach beyond their images; COCO '
                f'writes a box as left, top, width and height in pixels'
            )


def _check_labels(dataset: Any, count: int, where: str) -> None:
    for index in spread(len(dataset), _LABELS):
        info = dataset.get_data_info(index)
        labels = np.atleast_1d(info['gt_label'])
        if labels.size and not 0 <= labels.min() <= labels.max() < count:
            raise ConfigError(
                f'{where}: {info.get("img_path", index)!r} has the label {info["gt_label"]}, but '
                f'those of the classes are 0 to {count - 1}'
            )


def _check_label_maps(
    dataset: Any, maps: Iterable[Dict], count: int, ignored: Set, where: str
) -> None:
    """Check the labels in a few maps, as the pipeline loads them."""
    seen: Set[int] = set()
    pixels = 0
    for number, loaded in enumerate(maps):
        # Many are looked at only if they are small, or the others have no label of a class.
        many = number >= _FILES and pixels > _PIXELS
        if many and seen - ignored and seen != {0, 255}:
            return
        pixels += loaded['gt_seg_map'].size
        what, size = f'{loaded["seg_map_path"]!r}', loaded['gt_seg_map'].shape
        if len(size) != 2:
            what = f'{what} is a colour picture; a label map has one channel, of labels'
            raise ConfigError(f'{where}: {what}')
        if loaded.get('img_shape', size) != size:
            other = loaded['img_shape']
            raise ConfigError(f'{where}: {what} has the size {size}, and its image {other}')
        labels = set(np.flatnonzero(np.bincount(loaded['gt_seg_map'].ravel())).tolist())
        if wrong := [label for label in labels - ignored if label >= count]:
            raise ConfigError(
                f'{where}: {what} has the label {max(wrong)}, but those of the classes are 0 to '
                f'{count - 1}; if 0 in the file is no class, set reduce_zero_label=True'
            )
        seen |= labels
    # Masks are often saved with 255 for an object.
    is_mask = seen == {0, 255} and not dataset.label_map
    if not seen - ignored or is_mask:
        raise ConfigError(
            f'{where}: the label maps looked at hold {sorted(seen)} only (with reduce_zero_label='
            f'{dataset.reduce_zero_label}), and {dataset.ignore_index} is ignored; the labels of '
            f'the classes are 0 to {count - 1}'
        )
