"""Which modules of a student and a teacher to pair, when nobody says."""

from itertools import product
from typing import List, Optional, Tuple

from mmengine.logging import print_log
from torch import nn

from mmdiffkd.autopair.survey import Survey
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.levels import octaves

DETECTOR, SEGMENTOR, CLASSIFIER = 'Detector', 'Segmentor', 'Classifier'

Choice = Tuple[str, str]
"""The module paths of a pair in student and teacher."""


def common_task(student: nn.Module, teacher: nn.Module) -> str:
    """The task of both models by their base class, such as ``BaseDetector``."""
    tasks = []
    for model in (student, teacher):
        bases = [cls.__name__ for cls in type(model).__mro__]
        tasks.append([t for t in (DETECTOR, SEGMENTOR, CLASSIFIER) if f'Base{t}' in bases])
    if not tasks[0] or tasks[0] != tasks[1]:
        raise ConfigError(
            f'teacher: {type(teacher).__name__} and the student, {type(student).__name__}, must be '
            f'two detectors, segmentors or classifiers, or --pairs must say what is alike in them'
        )
    return tasks[0][0]


def choose_pairs(
    task: str, student: Survey, teacher: Survey, difference: Optional[str] = None
) -> List[Choice]:
    """Choose what to pair: the last features before the predictions, and the scores of classes.

    Scores are left out if ``difference`` says how the classes of the two models differ.
    """
    if task == DETECTOR:
        chosen = [_pyramids(student, teacher)]
    else:
        part, dimensions = ('decode_head', 4) if task == SEGMENTOR else ('head', 2)
        scores = [_scoring(view, part, dimensions) for view in (student, teacher)]
        features = [_before(view, names) for view, names in zip((student, teacher), scores)]
        numbers = [view.num_classes(dimensions) for view in (student, teacher)]
        if not all(scores):
            difference = f'none were found in the {"teacher" if scores[0] else "student"}'
        elif numbers[0] != numbers[1]:
            difference = f'the student knows {numbers[0]} classes, the teacher {numbers[1]}'
        if difference is not None:
            print_log(f'No pair of scores: {difference}', 'current')
        chosen = [tuple(features), None if difference else (scores[0][0], scores[1][0])]
    chosen = [pair for pair in chosen if pair and None not in pair]
    if not chosen:
        raise ConfigError(
            'no feature maps were found in neck, backbone or head of both models; name modules '
            'that --list-modules shows with --pairs'
        )
    return chosen


def _pyramids(student: Survey, teacher: Survey) -> Optional[Choice]:
    """The necks, or else the backbones, that share a stride. Other levels are cut off later."""
    pairs = list(product(_pyramids_of(student), _pyramids_of(teacher)))
    for pair in pairs:
        mine, others = (octaves(v.maps(n), v.shape[1]) for v, n in zip((student, teacher), pair))
        if set(mine) & set(others):
            return pair
    return pairs[0] if pairs else None


def _pyramids_of(view: Survey) -> List[str]:
    """The neck and the backbone, or if these yield no maps the last map inside of them."""
    names = [name for name in ('neck', 'backbone') if view.maps(name)]
    return names or list(filter(None, [_last_map(view)]))


def _last_map(view: Survey) -> Optional[str]:
    """Path of the last map larger than a pixel in neck and backbone, or None."""
    for name in view.last_to_first('neck', 'backbone'):
        maps = view.maps(name)
        # Several maps inside of neck or backbone may mean anything.
        clear = maps and (len(maps) == 1 or ('.' not in name and len(view.calls[name]) == 1))
        if clear and maps[-1][1:] != (1, 1):
            return f'{name}[-1]' if len(maps) > 1 else name
    return None


def _scoring(view: Survey, part: str, dimensions: int) -> List[str]:
    """The modules of a head that yield the scores of all classes, the last first."""
    number = view.num_classes(dimensions)
    names = view.last_to_first(part) if number else ()
    return [name for name in names if view.channels(name, dimensions) == number]


def _before(view: Survey, scoring: List[str]) -> Optional[str]:
    """Path of what a segmentor's classifier is given, or else of the last map before the scores."""
    inside = list(view.last_to_first('decode_head'))
    for name in inside:
        module = view.model.get_submodule(name)
        if name in scoring and not list(module.children()):
            names = inside[inside.index(name) + 1 :]
            before = next((n for n in names if not n.endswith('dropout')), name)
            # The module that ended before it, unless something was done in between.
            same = view.channels(before, 4) == getattr(module, 'in_channels', 0)
            return before if same else f'{name}:input'
    maps = (n for n in inside if n not in scoring and view.channels(n, 4))
    return next((n for n in maps if view.maps(n)[0][1:] != (1, 1)), None) or _last_map(view)
