"""Puts miniature data in the place of the data sets of a config."""

import shutil
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.registry import DATASETS, Registry

from mmdiffkd.datasets.config_checks import class_counts
from mmdiffkd.errors import ConfigError
from mmdiffkd.messages import tell
from mmdiffkd.models.classes import dataset_class, listed_classes
from mmdiffkd.models.configs import datasets_in, dicts_in, type_name
from mmdiffkd.testing import formats

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Training iterations and validation images of a smoke run.
ITERATIONS = 2
_VAL_IMAGES = 2
# Detectors and segmentors need no more than two images. Logits of classifiers do: two random
# networks give two images nearly the same logits, and batch norm would divide by no variance.
_BATCH_SIZE, _BATCH_SIZE_OF_CLASSIFIERS = 2, 4
# Settings of a data set that select from its data; the miniature is small as it is.
_SELECTIONS = ('filter_cfg', 'indices', 'split', 'bbox_file')
# Settings that a data set of another class takes, too.
_OF_ANY_DATA_SET = ('_scope_', 'pipeline', 'test_mode', 'return_classes')
# Settings of a loader that torch accepts with worker processes only; the last one sizes an epoch.
_OF_WORKERS = ('prefetch_factor', 'timeout', 'multiprocessing_context', 'num_batch_per_epoch')


class DataFormat(NamedTuple):
    """The function that writes a split, and the settings that say where it lies.

    Settings with a ``type`` are those of a data set that stands in for the config's own. A
    ``metric`` takes the place of the config's, which read files that are not written.
    """

    write: Callable[[BaseDataset, formats.Pictures], None]
    layout: Dict
    metric: Optional[Dict] = None


_AS_FOLDER = dict(data_prefix='images', ann_file='list.txt')
_AS_COCO = dict(ann_file='annotations.json', data_prefix=dict(img='images/', seg='maps/'))
_AS_DOTA = dict(ann_file='boxes', data_prefix=dict(img_path='images'))
_IN_PLACE = dict(_AS_COCO, type='mmdet.CocoDataset')
_COCO_METRIC = dict(type='mmdet.CocoMetric', metric='bbox')

FORMATS = {
    'mmdet.CocoDataset': DataFormat(formats.write_boxes, _AS_COCO),
    'mmdet.CocoPanopticDataset': DataFormat(
        formats.write_segments, _AS_COCO, dict(type='mmdet.CocoPanopticMetric', seg_prefix='maps/')
    ),
    # VOC and WIDER FACE, whose metrics ask for no file.
    'mmdet.XMLDataset': DataFormat(formats.write_boxes, _IN_PLACE),
    # CrowdHuman, OpenImages and others with boxes.
    'mmdet.BaseDetDataset': DataFormat(formats.write_boxes, _IN_PLACE, _COCO_METRIC),
    'mmdet.LVISV05Dataset': DataFormat(formats.write_boxes, _IN_PLACE, _COCO_METRIC),
    'mmrotate.DOTADataset': DataFormat(formats.write_rotated_boxes, _AS_DOTA),
    **{
        f'mmrotate.{name}': DataFormat(
            formats.write_rotated_boxes,
            dict(_AS_DOTA, type='mmrotate.DOTADataset'),
            dict(type='mmrotate.DOTAMetric'),
        )
        for name in ('DIORDataset', 'HRSCDataset')
    },
    'mmpose.BaseCocoStyleDataset': DataFormat(
        formats.write_keypoints, dict(ann_file='annotations.json', data_prefix=dict(img='images/'))
    ),
    'mmseg.BaseSegDataset': DataFormat(
        formats.write_label_maps,
        dict(
            data_prefix=dict(img_path='images', seg_map_path='maps'),
            ann_file='list.txt',
            img_suffix='.jpg',
            seg_map_suffix='.png',
        ),
    ),
    'mmpretrain.CustomDataset': DataFormat(formats.write_folder, _AS_FOLDER),
    # CIFAR-10, too; mmpretrain's own classes read nothing but the original files.
    'mmpretrain.CIFAR10': DataFormat(
        formats.write_cifar,
        dict(type='mmdiffkd.datasets.cifar100.UnverifiedCIFAR100', data_prefix=''),
    ),
    **{
        f'mmpretrain.{name}': DataFormat(
            formats.write_folder, dict(_AS_FOLDER, type='mmpretrain.CustomDataset')
        )
        for name in (
            'CUB', 'StanfordCars', 'Flowers102', 'Caltech101', 'FGVCAircraft', 'Food101', 'DTD',
            'OxfordIIITPet', 'SUN397',
        )
    },
    # These derive from one of the classes above and read something else.
    **dict.fromkeys(
        (
            'mmdet.ODVGDataset', 'mmdet.DODDataset', 'mmdet.Flickr30kDataset',
            'mmdet.MDETRStyleRefCocoDataset', 'mmseg.NYUDataset', 'mmseg.DSDLSegDataset',
            'mmseg.HSIDrive20Dataset',
        )
    ),
}  # fmt: skip
"""Formats by the library and class of a data set; None for what cannot be written."""


def format_of(cls: type) -> Optional[DataFormat]:
    """The format of a class of data sets or of the first of its bases, or None if there is none."""
    for base in cls.__mro__:
        key = f'{base.__module__.partition(".")[0]}.{base.__name__}'
        if key in FORMATS:
            return FORMATS[key]
    return None


def use_miniature_data(cfg: Config, image_size: Tuple[int, int]) -> bool:
    """Put a miniature in the place of each data set of a config.

    The main process writes the data, of pictures of at most ``image_size`` (width and height in
    pixels), below ``cfg.work_dir``. A data set that has no miniature is a :class:`ConfigError`.
    Returns whether the data is for classification.
    """
    for key in LOADERS:
        if cfg.get(key) is None:
            continue
        datasets = [dataset for _, dataset in datasets_in(cfg[key].dataset, key)]
        for wrapper in dicts_in(cfg[key].dataset):
            if 'dataset' in wrapper and 'times' in wrapper:
                wrapper['times'] = 1
        with DATASETS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
            data_formats = [_format(dataset, key) for dataset in datasets]
            classification = data_formats[0].write in (formats.write_folder, formats.write_cifar)
            batch = _BATCH_SIZE_OF_CLASSIFIERS if classification else _BATCH_SIZE
            total = _shrink_loader(cfg[key], batch) * ITERATIONS * get_world_size()
            if key != 'train_dataloader':
                total = _VAL_IMAGES
            for number, (dataset, data_format) in enumerate(zip(datasets, data_formats)):
                # Equal shares. Runs with other numbers of processes may share the work directory.
                count = max(1, (total + number) // len(datasets))
                root = Path(cfg.work_dir, 'data', f'{key}_{number}_{count}')
                for name in _SELECTIONS:
                    dataset.pop(name, None)
                if 'type' in data_format.layout:
                    if key == 'train_dataloader':
                        kind = data_format.layout['type']
                        tell(f'{type_name(dataset)} is not tried: {kind} stands in for it')
                    _make_room(dataset, cfg.model)
                dataset.update(data_root=f'{root}/', **data_format.layout)
                if dataset.get('proposal_file'):
                    dataset.proposal_file = 'proposals.pkl'
                if is_main_process():
                    pictures = formats.Pictures(range(1, count + 1), image_size)
                    _write(registry, dataset, data_format.write, pictures)
        evaluator = key.replace('dataloader', 'evaluator')
        if cfg.get(evaluator) is not None and data_formats[0].metric is not None:
            cfg[evaluator] = dict(data_formats[0].metric, ann_file='')
        _read_annotations(cfg.get(evaluator), datasets)
    barrier()
    return classification


def _format(dataset: ConfigDict, key: str) -> DataFormat:
    """The format in which the miniature of a data set is written."""
    cls = dataset_class(dataset)
    data_format = format_of(cls) if cls is not None else None
    if data_format is None:
        known = ', '.join(name for name, value in FORMATS.items() if value is not None)
        raise ConfigError(
            f'--smoke: {key}.dataset.type: no miniature of {dataset.type!r} can be made, only of '
            f'{known} and what derives from them; choose such a data set, or train without --smoke'
        )
    return data_format


def _make_room(dataset: ConfigDict, model: ConfigDict) -> None:
    """Leave in a data set's config its classes and what a stand-in takes."""
    classes = listed_classes(dataset)
    if classes is None:
        # The real data has the names in a file.
        number = max(class_counts(model).values(), default=1)
        classes = [f'class {index}' for index in range(number)]
    kept = {name: dataset[name] for name in _OF_ANY_DATA_SET if name in dataset}
    dataset.clear()
    dataset.update(kept, metainfo=dict(classes=classes))


def _write(registry: Registry, dataset: ConfigDict, write: Callable, pictures: Any) -> None:
    root = Path(dataset.data_root)
    # A run before may have had other classes.
    shutil.rmtree(root, ignore_errors=True)
    # Some data sets look for these when they are built.
    for folder in ('images', 'maps'):
        (root / folder).mkdir(parents=True)
    (root / 'list.txt').touch()
    write(registry.build(dict(dataset, pipeline=[], lazy_init=True)), pictures)


def _read_annotations(evaluator: Any, datasets: Sequence[ConfigDict]) -> None:
    """Let metrics that read annotation files read those of the miniatures."""
    metrics = [part for part in dicts_in(evaluator) if 'ann_file' in part]
    for number, metric in enumerate(metrics):
        # Of several data sets each has its own, or all are for the only one.
        dataset = datasets[min(number, len(datasets) - 1)]
        metric['ann_file'] = f'{dataset.data_root}{dataset.ann_file}'
        if 'seg_prefix' in metric:
            metric['seg_prefix'] = f'{dataset.data_root}maps/'


def _shrink_loader(loader: ConfigDict, batch_size: int) -> int:
    """Load few images at a time in the training process itself. Returns the batch size."""
    loader.update(num_workers=0, persistent_workers=False)
    for name in _OF_WORKERS:
        loader.pop(name, None)
    loader.batch_size = batch_size if loader.get('batch_size', 1) > 1 else 1
    return loader.batch_size
