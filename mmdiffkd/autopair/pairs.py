"""Which modules of student and teacher to pair, and with what head and loss."""

from itertools import product
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import torch
from torch import nn

from mmdiffkd.autopair.survey import Survey, survey
from mmdiffkd.capture import FeatureCapture
from mmdiffkd.errors import ConfigError
from mmdiffkd.messages import tell
from mmdiffkd.models.dry_run import (
    ImageShape,
    blank_features,
    first_accepted,
    random_batch,
    undisturbed,
)
from mmdiffkd.models.hosts import run_for_features
from mmdiffkd.models.shapes import (
    MapShape,
    Size,
    better_cut,
    cut_to,
    layouts_of,
    octaves,
    octaves_of_both,
    strides_of,
    to_map,
)

DETECTOR, SEGMENTOR, CLASSIFIER = 'Detector', 'Segmentor', 'Classifier'
OTHER = 'other'  # such as pose estimators

Choice = Tuple[str, str]  # the module paths of a pair in student and teacher

_COMMENT = """\
# Maps of an image of {}x{}, channels x height x width:
#   student  {}
#   teacher  {}
"""
# On settings of a head that are not its defaults.
_NOTES = dict(
    ae_channels="ae_channels: the teacher's map is compressed to so many channels at first.",
    kernel_size='kernel_size=1: a vector has no neighbouring places for a larger kernel.',
    reduction='reduction=1: layers inside the head are as wide as this narrow map, not narrower.',
)
_SCORES_OF_DETECTORS = """\
# Scores of detectors are not paired by default, because their heads yield different things.
# For two detectors of one kind, with the same classes, add for example:
#   scores=dict(
#       student='bbox_head[0]',
#       teacher='bbox_head[0]',
#       loss=dict(type='KLDivLoss', use_sigmoid=True),
#   ),
"""


def common_task(student: nn.Module, teacher: nn.Module) -> str:
    """The task of both models by their base class, such as ``BaseDetector``.

    Two models of other classes with a backbone have the task ``OTHER``.
    """
    tasks = []
    for model in (student, teacher):
        bases = [cls.__name__ for cls in type(model).__mro__]
        tasks.append([t for t in (DETECTOR, SEGMENTOR, CLASSIFIER) if f'Base{t}' in bases])
    if tasks == [[], []] and hasattr(student, 'backbone') and hasattr(teacher, 'backbone'):
        return OTHER
    if not tasks[0] or tasks[0] != tasks[1]:
        raise ConfigError(
            f'teacher: {type(teacher).__name__} and the student, {type(student).__name__}, must be '
            f'two detectors, segmentors or classifiers of images; choose such configs, or say with '
            f'--pairs what is alike in them'
        )
    return tasks[0][0]


def choose_pairs(
    task: str, student: Survey, teacher: Survey, difference: Optional[str] = None
) -> Tuple[List[Choice], str]:
    """Choose what to pair: the last features before the predictions, and the scores of classes.

    Scores are left out if ``difference`` says how the classes of the two models differ. Returns the
    pairs, and a comment on why there is none of scores.
    """
    comment = ''
    if task in (DETECTOR, OTHER):
        chosen = [_pyramids(student, teacher)]
        comment = _SCORES_OF_DETECTORS if task == DETECTOR else ''
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
            tell(f'No pair of scores: {difference}')
            comment = f'# No pair of scores: {difference}\n'
        chosen = [tuple(features), None if difference else (scores[0][0], scores[1][0])]
    chosen = [pair for pair in chosen if pair and None not in pair]
    if not chosen:
        raise ConfigError(
            'no feature maps were found in both models; name some with --pairs, out of the modules '
            'that --list-modules shows'
        )
    return chosen, comment


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
            return before if _is_passed_on(view, before, name) else f'{name}:input'
    maps = (n for n in inside if n not in scoring and view.channels(n, 4))
    return next((n for n in maps if view.maps(n)[0][1:] != (1, 1)), None) or _last_map(view)


def _is_passed_on(view: Survey, before: str, name: str) -> bool:
    """Whether the map of the module ``before`` is what the module ``name`` is given."""
    if not view.channels(before, 4):
        return False
    image, samples = random_batch(view.shape, 1)  # of a blank image all maps may be zero
    capture = FeatureCapture(view.model, (before, f'{name}:input'))
    with undisturbed(view.model), capture as features:
        run_for_features(view.model, features, image, samples)
    return torch.equal(*(torch.cat(maps) for maps in features.values()))


def parse_pairs(texts: Union[str, Sequence[str]]) -> List[Choice]:
    """Read pairs of a command line: ``'path'`` for both models or ``'student=teacher'``."""
    choices = []
    for text in [texts] if isinstance(texts, str) else texts:
        paths = text.split('=') * (1 if '=' in text else 2)
        if len(paths) != 2 or '' in paths:
            raise ConfigError(
                f"--pairs: {text!r} must be a path that both models have, such as 'neck', or one "
                f"of each, as in 'backbone[-1]=backbone.layer4'"
            )
        choices.append(tuple(paths))
    return choices


def make_pairs(
    choices: Sequence[Choice],
    models: Sequence[nn.Module],
    shapes: Iterable[ImageShape],
    pair_of: Optional[Callable] = None,
    flag: str = '--pairs',
    teacher_size: Optional[Size] = None,
) -> Tuple[Dict[str, Dict], Dict[str, str]]:
    """Give each pair a name, a head and a loss, by what its modules yield for a blank image.

    Pyramids of different levels are cut to those of equal stride. ``models`` are student and
    teacher, ``shapes`` those of the images to try, ``pair_of`` is the like of :func:`diffkd_pair`
    for another method, ``flag`` begins errors, and ``teacher_size`` is the height and width of the
    teacher's images, if they are not the student's. Returns name to config, and name to a comment.
    """

    def capture(shape: ImageShape) -> Tuple[Tuple[ImageShape, ImageShape], List]:
        both = shape, shape[:1] + (teacher_size or shape[1:])
        parts = zip(models, ('student', 'teacher'), zip(*choices), both)
        return both, [blank_features(*part) for part in parts]

    pairs: Dict[str, Dict] = {}
    comments: Dict[str, str] = {}
    try:
        both, captured = first_accepted(shapes, capture)
        shape = both[0]
        for choice in choices:
            maps, calls = [], []
            for path, model, seen, (features, number) in zip(choice, models, both, captured):
                layouts = layouts_of([(features[path], seen[1:])], strides_of(model))
                found = [to_map(x, seen[1:], layouts) for x in features[path]]
                maps.append([tuple(one.shape[1:]) for one in found])
                calls.append(number[path])
            sides = [seen[1] for seen in both]
            levels = better_cut(*octaves_of_both(*maps, *sides)) if calls == [1, 1] else None
            if levels is not None:
                choice = cut_to(choice, levels, [len(part) for part in maps])
                maps = [part[kept] for part, kept in zip(maps, levels)]
            name, config = (pair_of or diffkd_pair)(choice, maps, models[0], shape)
            taken = sum(other.rstrip('0123456789') == name for other in pairs)
            name = f'{name}{taken + 1}' if taken else name
            shown = (', '.join('x'.join(map(str, one)) for one in part) for part in maps)
            pairs[name], comments[name] = config, _COMMENT.format(*shape[1:], *shown)
            notes = (note for key, note in _NOTES.items() if key in config.get('head', ()))
            comments[name] += ''.join(f'# {note}\n' for note in notes)
    except ValueError as error:
        raise ConfigError(f'{flag}: {error}') from error
    return pairs, comments


def diffkd_pair(
    choice: Choice, maps: List[List[MapShape]], student: nn.Module, image: ImageShape
) -> Tuple[str, Dict]:
    """Name and config of a pair, as the shipped configs have them."""
    if len(maps[0]) != len(maps[1]):
        raise ValueError(
            f'{choice[0]!r} yields {len(maps[0])} maps, {choice[1]!r} {len(maps[1])}, and no levels'
            f" of the same stride can be told; choose some, as in '{choice[0]}[-1]={choice[1]}[-1]'"
        )
    pair = dict(student=choice[0], teacher=choice[1], head=dict(type='DiffKDHead'))
    head, number = pair['head'], None
    vectors = all(shape[1:] == (1, 1) for part in maps for shape in part)
    if vectors:
        head['kernel_size'] = 1
    if ':' not in choice[0] and (vectors or choice[0].startswith('decode_head')):
        number = survey(student, 'student', (image,)).num_classes(2 if vectors else 4)
    if {channels for part in maps for channels, _, _ in part} == {number}:
        bases = {base.__name__ for module in student.modules() for base in type(module).__mro__}
        # A softmax of one channel says nothing, and of several labels not what was learned.
        sigmoid = dict(use_sigmoid=True) if number == 1 or 'MultiLabelClsHead' in bases else {}
        if not vectors:
            # A channel per class: a quarter of them would leave little to predict with.
            head.update(reduction=1, adapter_reduction=1)
        return 'logits', dict(pair, loss=dict(type='KLDivLoss', loss_weight=1.0, **sigmoid))
    name = 'fpn' if choice[0].startswith('neck') and len(maps[0]) > 1 else 'features'
    if max(channels for channels, _, _ in maps[1]) > 1024:
        head['ae_channels'] = 1024  # as in the reference implementation
    return name, dict(pair, loss=dict(type='MSELoss', loss_weight=5.0 if name == 'fpn' else 1.0))
