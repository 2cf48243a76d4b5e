"""The names of the classes: scores of student and teacher are compared by them, not by number."""

import re
from itertools import zip_longest
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from mmengine.fileio import list_from_file
from mmengine.logging import print_log
from mmengine.registry import DATASETS, Registry
from torch import Tensor, nn

from mmdiffkd.errors import ConfigError
from mmdiffkd.models.hosts import load_config, scope_of
from mmdiffkd.models.probing import random_state_kept

Classes = Optional[Tuple[str, ...]]
"""Names in the order of the scores; None if they are not known."""

# Distances of distributions, of whatever library.
_OF_SCORES = re.compile('KL|DIST|CrossEntropy')
# Detectors' modules that yield nothing else: `fc_cls`, `retina_cls`, `cls_score`.
_SCORING = re.compile(r'(^|[._])cls(_score)?$')
# All that these yield at the end is scores; heads of detectors yield boxes, too.
_HEADS_OF_SCORES = ('head', 'decode_head', 'auxiliary_head')


def classes_of_data(loader: Optional[Dict], scope: Optional[str] = None) -> Classes:
    """What the data set of a data loader's config calls its classes.

    Args:
        loader: The config, such as ``train_dataloader``.
        scope: Where the type of the data set is looked up, if not in the current default scope.
    """
    dataset: Any = (loader or {}).get('dataset')
    while isinstance(dataset, dict) and ('dataset' in dataset or 'datasets' in dataset):
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    if not isinstance(dataset, dict):
        return None
    listed = dataset.get('classes') or (dataset.get('metainfo') or {}).get('classes')
    if not listed:
        with DATASETS.switch_scope_and_registry(scope) as registry:
            cls = dataset.get('type')
            cls = registry.get(cls) if isinstance(cls, str) else cls
            listed = getattr(cls, 'METAINFO', {}).get('classes')
            if not listed and cls is not None:
                listed = _listed_when_built(registry, dataset)
    if isinstance(listed, str):
        path = Path(listed).expanduser()
        # That of a teacher may be on another machine.
        listed = list_from_file(path) if path.is_file() else None
    return _names(listed)


def _listed_when_built(registry: Registry, dataset: Dict) -> Optional[Sequence[str]]:
    """The classes of a data set that finds them when it reads its data, as folders."""
    try:
        with random_state_kept():
            return getattr(registry.build(dataset), 'metainfo', {}).get('classes')
    except Exception as error:
        # Files that are not there are the data loader's to complain about, or on another machine.
        print_log(f'No classes could be read off a data set: {error!r}', 'current')
        return None


def classes_of_file(checkpoint: Dict) -> Classes:
    """What a checkpoint's meta information, of now or of the libraries' first versions, says.

    Args:
        checkpoint: What the file holds.
    """
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    places = [place for place in (meta.get('dataset_meta'), meta) if isinstance(place, dict)]
    listed = [place[key] for place in places for key in ('classes', 'CLASSES') if place.get(key)]
    return _names(listed[0] if listed else None)


def classes_of_config(config: Any) -> Classes:
    """What the data sets of a teacher's config say.

    Args:
        config: A path or a ``library::name``; a model dict says nothing.
    """
    if isinstance(config, dict):
        return None
    cfg = load_config(config, 'teacher.config')
    scope = scope_of(cfg, config)
    loaders = (cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test'))
    return next(filter(None, (classes_of_data(loader, scope) for loader in loaders)), None)


def class_difference(student: Classes, teacher: Classes) -> Optional[str]:
    """What is different about two lists of classes, in words; None if nothing that is known.

    Args:
        student: Of the student.
        teacher: Of the teacher.
    """
    if student is None or teacher is None:
        return None
    mine, others = student, teacher
    plain = [
        [re.sub(r'[\W_]+', ' ', name).strip().casefold() for name in s] for s in (mine, others)
    ]
    # Libraries differ in spaces, dashes and case, which matter only where they tell two apart.
    if [len({*names}) for names in plain] == [len({*mine}), len({*others})]:
        mine, others = plain
    unlike = (i for i, (a, b) in enumerate(zip_longest(mine, others)) if a != b)
    place = next(unlike, None)
    if place is None:
        return None
    how = 'in another order' if sorted(mine) == sorted(others) else 'not the same'
    names = ' and '.join(
        repr(x[place]) if place < len(x) else 'nothing' for x in (student, teacher)
    )
    return f'the classes of student and teacher are {how} (number {place}: {names})'


def check_classes(
    name: str,
    cfg: Dict,
    loss: nn.Module,
    maps: Tuple[Sequence[Tensor], Sequence[Tensor]],
    student: Callable[[], Classes],
    teacher: Any,
) -> None:
    """Raise :class:`ConfigError` if a pair compares scores of classes that are not the same.

    Args:
        name: Of the pair.
        cfg: Its config.
        loss: Its distance.
        maps: Of student and teacher, each (N, C, H, W).
        student: Yields the classes of the student; asked only if it has to be, as the data may have
            to be read for it.
        teacher: The :class:`FrozenTeacher`, which is asked for its classes if it has to be.
    """
    path, kind = cfg['student'], type(loss).__name__
    if not _says_scores(path, kind) and _root(path) not in _HEADS_OF_SCORES:
        return
    mine = student()
    if mine is None or not _are_scores(path, kind, maps[0], len(mine)):
        return
    difference = class_difference(mine, teacher.classes)
    if difference is not None and _are_scores(path, kind, maps[1], len(teacher.classes)):
        raise ConfigError(
            f'pairs.{name}: it compares scores of classes, and {difference}; leave the pair out, '
            f"or list the student's classes as the teacher does; if only the spelling differs, "
            f'say so with teacher.classes'
        )


def _says_scores(path: str, loss: str) -> bool:
    """Whether the names of a pair's module or distance are those for scores."""
    return bool(_OF_SCORES.search(loss) or _SCORING.search(path))


def _root(path: str) -> str:
    """The child of the model that a path of an output leads into; empty for an input."""
    return path.partition('.')[0].partition('[')[0] if ':' not in path else ''


def _are_scores(path: str, loss: str, maps: Sequence[Tensor], number: int) -> bool:
    """Whether a pair compares scores of classes, as far as one side tells.

    Args:
        path: The student's.
        loss: Name of the distance's class.
        maps: Of one model, each (N, C, H, W).
        number: Of the classes of that model.
    """
    root = _root(path)
    widths = [feature.shape[1] for feature in maps]
    one_each = all(width == number for width in widths)
    if not _says_scores(path, loss):
        return one_each and root in _HEADS_OF_SCORES
    # Detectors score each class for several boxes of a place, or a background, too.
    dense = root.endswith('head') and root not in _HEADS_OF_SCORES
    return one_each or (dense and all(w % number == 0 or w == number + 1 for w in widths))


def _names(listed: Optional[Sequence[Any]]) -> Classes:
    return tuple(map(str, listed)) if listed is not None and len(listed) else None
