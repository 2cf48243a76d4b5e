"""Names of classes: scores of student and teacher are compared only if the names agree."""

import re
from itertools import zip_longest
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from mmengine.fileio import list_from_file
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from torch import Tensor

from mmdiffkd.errors import ConfigError
from mmdiffkd.models.configs import datasets_in, load_config, scope_of
from mmdiffkd.models.dry_run import random_state_kept

Classes = Optional[Tuple[str, ...]]
"""Names in the order of the scores; None if they are not known."""

# Losses that compare scores, and modules that yield them, such as `fc_cls` and `cls_score`.
_SCORE_LOSSES = re.compile('KL|DKD|DIST|CrossEntropy')
_SCORE_MODULES = re.compile(r'(^|[._])cls(_score)?$')
# Heads that yield class scores alone; heads of detectors yield boxes too.
_SCORE_HEADS = ('head', 'decode_head', 'auxiliary_head')


def is_list_of_names(value: Any) -> bool:
    """Whether a value is a list or tuple of strings."""
    return isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)


def classes_of_data(loader: Optional[Dict], scope: Optional[str] = None) -> Classes:
    """The class names of the data set in a data loader's config.

    ``scope`` is the registry scope of the data set's type, by default the current one.
    """
    _, dataset = next(datasets_in((loader or {}).get('dataset'), ''))
    if not isinstance(dataset, dict):
        return None
    listed = listed_classes(dataset, scope)
    if not listed:
        # Some data sets find their classes when they read their files, as folders.
        try:
            with random_state_kept(), DATASETS.switch_scope_and_registry(scope) as registry:
                listed = _names(getattr(registry.build(dataset), 'metainfo', {}).get('classes'))
        except Exception as error:
            # The files may be missing, or on another machine if it is the teacher's data.
            print_log(f'The classes of a data set could not be read: {error!r}', 'current')
    return listed


def dataset_class(dataset: Dict, scope: Optional[str] = None) -> Any:
    """The class of a data set's config, of the registry scope ``scope``; None if it is unknown."""
    cls = dataset.get('type')
    # Of a base that is named as 'library::config' each type has a scope.
    with DATASETS.switch_scope_and_registry(dataset.get('_scope_', scope)) as registry:
        return registry.get(cls) if isinstance(cls, str) else cls


def listed_classes(dataset: Dict, scope: Optional[str] = None) -> Classes:
    """The class names in a data set's config, or else those of its class."""
    listed = dataset.get('classes') or (dataset.get('metainfo') or {}).get('classes')
    listed = listed or getattr(dataset_class(dataset, scope), 'METAINFO', {}).get('classes')
    if isinstance(listed, str):
        path = Path(listed).expanduser()
        listed = list_from_file(path) if path.is_file() else None
    return _names(listed)


def classes_of_file(checkpoint: Dict) -> Classes:
    """The class names in a checkpoint's meta information, of any version of the libraries."""
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    places = [meta.get('dataset_meta'), meta] if isinstance(meta, dict) else []
    found = [p.get(key) for p in places if isinstance(p, dict) for key in ('classes', 'CLASSES')]
    return next(filter(None, map(_names, found)), None)


def classes_of_config(config: Any) -> Classes:
    """The class names of the data in a teacher's config, a path or ``library::name``."""
    if isinstance(config, dict):
        return None
    cfg = load_config(config, 'teacher.config')
    scope = scope_of(cfg, config)
    loaders = (cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test'))
    return next(filter(None, (classes_of_data(loader, scope) for loader in loaders)), None)


def _names(listed: Optional[Sequence[Any]]) -> Classes:
    return tuple(map(str, listed)) if listed is not None and len(listed) else None


def class_difference(
    student: Classes, teacher: Classes, owners: str = 'student and teacher'
) -> Optional[str]:
    """A description of how two lists of classes differ; None if they agree or one is unknown."""
    if student is None or teacher is None:
        return None
    mine, others = (
        [re.sub(r'[\W_]+', ' ', name).strip().casefold() for name in names]
        for names in (student, teacher)
    )
    if mine == others:
        return None
    how = 'in another order' if sorted(mine) == sorted(others) else 'not the same'
    pairs = enumerate(zip_longest(mine, others, fillvalue='nothing'))
    index, names = next((i, pair) for i, pair in pairs if len({*pair}) == 2)
    return f'the classes of {owners} are {how} (number {index}: {names[0]}, {names[1]})'


def check_classes(
    pair: Any,
    maps: Tuple[Sequence[Tensor], Sequence[Tensor]],
    student: Callable[[], Classes],
    teacher: Any,
) -> None:
    """Raise :class:`ConfigError` if a pair compares scores of different classes.

    ``maps`` are the maps (N, C, H, W) of student and teacher. ``student`` returns the student's
    classes; it and ``classes`` of the :class:`FrozenTeacher` may read files and are used if needed.
    """
    path = pair.cfg['student']
    root = re.split(r'[.\[]', path)[0] if ':' not in path else ''
    by_name = _SCORE_LOSSES.search(type(pair.loss).__name__) or _SCORE_MODULES.search(path)
    # Detectors have scores for several boxes at each place, or one more for the background.
    dense = root.endswith('head') and root not in _SCORE_HEADS

    def are_scores(side: Sequence[Tensor], number: int) -> bool:
        widths = [feature.shape[1] for feature in side]
        return all(n in (number, dense and number + 1) or dense and n % number == 0 for n in widths)

    mine = student() if by_name or root in _SCORE_HEADS else None
    if mine is None or not are_scores(maps[0], len(mine)):
        return
    difference = class_difference(mine, teacher.classes)
    if difference is not None and are_scores(maps[1], len(teacher.classes)):
        raise ConfigError(
            f'pairs.{pair.name}: it compares scores of classes, and {difference}; leave the pair '
            f"out, list the student's classes as the teacher does, or correct teacher.classes"
        )
