"""What a config says about its data, checked before anything is built."""

import inspect
import os
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from mmdiffkd.errors import ConfigError, shortened, suggest
from mmdiffkd.models.classes import (
    Classes,
    class_difference,
    dataset_class,
    is_list_of_names,
    listed_classes,
)
from mmdiffkd.models.configs import datasets_in, dicts_in, student_config, type_name

# Heads with one score per class, or more. Others, such as an RPN, may have any number.
_HEADS = ('bbox_head', 'mask_head', 'decode_head', 'head', 'auxiliary_head')
# Those with one of these settings score something else: whether there is an object, or a boundary.
_WITHOUT_CLASSES = ('class_agnostic', 'boundary_threshold')
# Models with one of these learn from the names of classes.
_READERS = {'language_model', 'text_encoder'}


def datasets_of(cfg: Config, key: str) -> Iterator[Tuple[str, Dict]]:
    """The config dicts of the innermost data sets of a loader, with their config keys."""
    loader = cfg.get(key)
    dataset = loader.get('dataset') if isinstance(loader, dict) else None
    pairs = datasets_in(dataset, f'{key}.dataset') if isinstance(dataset, dict) else ()
    return ((where, part) for where, part in pairs if isinstance(part, dict))


def check_config(cfg: Config, keys: Sequence[str], smoke: bool = False) -> Dict[str, str]:
    """Check what a config says about its data, without reading any.

    Args:
        cfg: Complete config.
        keys: Loaders that will be used, such as ``train_dataloader``.
        smoke: Whether the folder of a data set may be missing, see :func:`is_placeholder`.

    Returns:
        Config key of each data set that may be missing, and why it is not looked at.

    Raises:
        ConfigError: Naming the config key of a file that is not there, or of classes that fit
            neither the model nor each other.
    """
    model = {'data_preprocessor': cfg.get('data_preprocessor'), **(cfg.get('model') or {})}
    heads, scope = class_counts(model), cfg.get('default_scope')
    lists: List[Tuple[str, Classes]] = []
    absent: Dict[str, str] = {}
    for key in keys:
        _check_length(cfg, key)
        for where, dataset in datasets_of(cfg, key):
            cls = dataset_class(dataset, scope)
            _check_listed(dataset, where)
            is_known = inspect.isclass(cls) and issubclass(cls, BaseDataset)
            missing = _missing_place(dataset) if is_known else None
            if is_known and 'download' in inspect.signature(cls).parameters:
                absent[where] = 'what is missing is downloaded'
            elif missing:
                folder = dataset.get('data_root') or Path(missing[1]).parent
                if not smoke or not is_placeholder(folder):
                    raise ConfigError(f'{where}.{not_there(*missing)}')
                absent[where] = f'{folder} is not there'
            listed, paths = listed_classes(dataset, scope), _class_folders(cls, dataset)
            folders = tuple(path.name for path in paths)
            for path in paths if key == 'train_dataloader' else ():
                usual = inspect.signature(cls).parameters['extensions'].default
                _check_folder(path, dataset.get('extensions', usual), where)
            lists += [(f'{where}.metainfo.classes', listed)] if listed else []
            lists += [(f'the folders of {where}', folders)] if folders else []
            if not _is_open(cls, dataset):
                _check_counts(heads, listed or folders, where)
        evaluator = key.replace('dataloader', 'evaluator')
        for part in dicts_in(cfg.get(evaluator)):
            missing = first_missing(dict(ann_file=part.get('ann_file')), part)
            if missing and not absent:
                raise ConfigError(f'{evaluator}.{not_there(*missing)}')
            best = np.max(part.get('topk', 1)) if type_name(part) == 'Accuracy' else 1
            if best > min(heads.values(), default=best):
                what = f'the best {best} classes are asked for, and the model has fewer'
                raise ConfigError(f'{evaluator}.topk: {what}')
    _check_names(lists)
    return absent


def _check_length(cfg: Config, key: str) -> None:
    """Raise if an epoch of the training would have no end."""
    loop, sampler = cfg.get('train_cfg') or {}, type_name((cfg.get(key) or {}).get('sampler'))
    by_epoch = loop.get('by_epoch') or type_name(loop) == 'EpochBasedTrainLoop'
    if key == 'train_dataloader' and by_epoch and sampler.startswith('Infinite'):
        raise ConfigError(
            f'{key}.sampler: an epoch of {sampler} never ends; write DefaultSampler, or train by '
            f'max_iters with IterBasedTrainLoop'
        )


def class_counts(model: Any) -> Dict[str, int]:
    """The numbers of classes in the config of a run's model, by their keys.

    They are those of the student's heads that score the classes, unless the model learns from
    their names, with other settings that hold one number per class.
    """
    if not isinstance(model, dict):
        return {}
    student = student_config(model)
    name = 'student' if 'student' in model else 'model'
    counts: Dict[str, int] = {}
    for prefix, holder in ((name, student), (f'{name}.roi_head', student.get('roi_head'))):
        for key in _HEADS if isinstance(holder, dict) and not _READERS & student.keys() else ():
            heads = holder.get(key)
            for head in heads if isinstance(heads, (list, tuple)) else [heads]:
                is_head = isinstance(head, dict) and isinstance(head.get('num_classes'), int)
                if is_head and not any(map(head.get, _WITHOUT_CLASSES)):
                    counts[f'{prefix}.{key}.num_classes'] = head['num_classes']
                    counts.update(_other_counts(head, f'{prefix}.{key}'))
    images = student.get('data_preprocessor') or {}
    mixed = images.get('batch_augments') or (student.get('train_cfg') or {}).get('augments')
    # Otherwise MMPretrain does not read the number.
    if isinstance(images.get('num_classes'), int) and (mixed or images.get('to_onehot')):
        counts['data_preprocessor.num_classes'] = images['num_classes']
    return counts


def _other_counts(head: Dict, key: str) -> Iterator[Tuple[str, int]]:
    """What a segmentor's head at ``key`` says about the number of classes beside it."""
    # In other heads, and in those with queries, these are the channels of features.
    is_decoder = key.endswith(('decode_head', 'auxiliary_head')) and 'num_queries' not in head
    channels = head.get('out_channels') if is_decoder else None
    if isinstance(channels, int) and (channels, head['num_classes']) != (1, 2):
        yield f'{key}.out_channels', channels
    for loss in dicts_in(head.get('loss_decode')):
        if isinstance(loss.get('class_weight'), (list, tuple)):
            yield f'the length of {key}.loss_decode.class_weight', len(loss['class_weight'])


def _is_open(cls: Any, dataset: Dict) -> bool:
    """Whether the classes of a data set need not be those of a head.

    Panoptic data has more of them, some are words that a model reads, and the names that a
    classification data set has by its type may be more than its annotations use.
    """
    info = dataset.get('metainfo') or {}
    usual = getattr(cls, 'METAINFO', {})
    has_own = info.get('classes') or dataset.get('classes') or not usual.get('classes')
    is_usual = hasattr(cls, 'class_to_idx') and not has_own
    return is_usual or 'thing_classes' in {*usual, *info} or bool(dataset.get('return_classes'))


def _check_counts(heads: Dict[str, int], classes: Classes, where: str) -> None:
    """Raise if a head has another number of classes than the data ``where``."""
    for key, number in heads.items() if classes else ():
        if number < len(classes) or (number > len(classes) and 'auxiliary' not in key):
            size = f'{len(classes)} class{"es" if len(classes) > 1 else ""}'
            listed = shortened(', '.join(classes), 100)
            raise ConfigError(
                f'{key} is {number}, but {where} has {size}: {listed}; correct the number or '
                f'metainfo.classes'
            )


def _check_listed(dataset: Dict, where: str) -> None:
    """Check the names that a data set's config lists itself."""
    info = dataset.get('metainfo') or {}
    classes, key = info.get('classes', dataset.get('classes')), f'{where}.metainfo'
    for name in ('CLASSES', 'PALETTE'):
        if name in info and name.lower() not in info:
            raise ConfigError(f'{key}: nothing reads {name!r}; write {name.lower()!r}')
    if isinstance(classes, str) and '://' not in classes:
        if not Path(classes).expanduser().is_file():
            raise ConfigError(
                f'{key}.classes must be a list of names or the path of a file of names, got '
                f"{classes!r}; one name is written with a comma, as in classes=('bolt',)"
            )
    elif not isinstance(classes, str) and classes is not None and not is_list_of_names(classes):
        got = shortened(repr(classes), 100)
        raise ConfigError(f'{key}.classes must be a list of names, got {got}')


def _check_names(lists: Sequence[Tuple[str, Classes]]) -> None:
    """Raise if lists of names, each of a config key or of folders, name the same classes otherwise.

    Names that have nothing to do with those of the folders are only shown.
    """
    for key, names in lists:
        first, others = lists[0]
        difference = class_difference(others, names, f'{first} and {key}')
        is_folder = 'folders' in key and {*names} & {*others}
        if difference and (is_folder or sorted(names) == sorted(others)):
            raise ConfigError(f'{difference}; labels are numbered in the order of the names')


def _class_folders(cls: Any, dataset: Dict) -> List[Path]:
    """The folders after which mmpretrain's ``CustomDataset`` numbers classes; none of others."""
    prefix = dataset.get('data_prefix') or ''
    prefix = prefix.get('img_path', '') if isinstance(prefix, dict) else prefix
    path = Path(dataset.get('data_root') or '', prefix).expanduser()
    is_sorted = getattr(cls, '__name__', '') == 'CustomDataset' and not dataset.get('ann_file')
    if not is_sorted or not dataset.get('with_label', True) or not path.is_dir():
        return []
    return sorted(item for item in path.iterdir() if item.is_dir())


def _check_folder(path: Path, extensions: Sequence[str], where: str) -> None:
    """Raise if the folder of a class has no file with one of the extensions of images."""
    extensions = tuple(sorted(map(str.lower, extensions)))
    names = [name for *_, files in os.walk(path, followlinks=True) for name in files]
    if not any(name.lower().endswith(extensions) for name in names):
        ends = ', '.join(sorted({Path(name).suffix for name in names}))
        why = f'its files end in {ends}, and images in {", ".join(extensions)}'
        raise ConfigError(
            f'{where}: the folder of a class, {str(path)!r}, has no image'
            f'{f": {why}" if ends else ""}; put images there, or delete the folder'
        )


def _missing_place(dataset: Dict) -> Optional[Tuple[str, str]]:
    """The key and the path of the first file or folder of a data set that is not there."""
    root, prefix = dataset.get('data_root') or '', dataset.get('data_prefix')
    prefixes = prefix if isinstance(prefix, dict) else {'': prefix}
    named = {f'data_prefix.{key}'.rstrip('.'): value for key, value in prefixes.items()}
    named.update({key: dataset.get(key) for key in ('ann_file', 'proposal_file')})
    places = {k: os.path.join(root, v) for k, v in named.items() if v and isinstance(v, str)}
    if not places or any(path.startswith(root) for path in places.values()):
        places = dict(data_root=root, **places)
    return first_missing(places, dataset)


def first_missing(places: Dict[str, Any], settings: Dict) -> Optional[Tuple[str, str]]:
    """The first of some local paths that does not exist; all do if ``settings`` name a backend."""
    if any(part.get('backend_args') for part in dicts_in(settings)):
        return None
    for key, path in places.items():
        is_local = isinstance(path, str) and path and '://' not in path
        if is_local and not Path(path).expanduser().exists():
            return key, path
    return None


def not_there(key: str, path: str) -> str:
    """What a message says about a missing file or folder, and names beside it that look alike."""
    folder = Path(path).parent
    # Folders of images have too many names.
    beside = [item.name for item in islice(folder.iterdir(), 1000)] if folder.is_dir() else []
    hint, kind = suggest(Path(path).name, beside), 'folder' if key.startswith('data_') else 'file'
    return f'{key}: no {kind} {path!r} (looked from {Path.cwd()}){hint}'


def is_placeholder(folder: Any) -> bool:
    """Whether a folder is not there, and is one where configs expect data or trained teachers."""
    folder = Path(folder)
    usual = not folder.is_absolute() and {'data', 'work_dirs'} & {*folder.parts}
    return bool(usual) and not folder.exists()
