"""Which modules of a teacher and a student to pair, when nobody says."""

from typing import Dict, List, NamedTuple, Optional, Tuple

from mmengine.logging import print_log
from torch import nn

from mmdiffkd.autopair.model_view import ModelView
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.levels import indexed, match_levels, octaves

DETECTOR, SEGMENTOR, CLASSIFIER = 'detector', 'segmentor', 'classifier'

# The base classes that the hosts' runners, losses and data sets know.
_BASES = dict(BaseDetector=DETECTOR, BaseSegmentor=SEGMENTOR, BaseClassifier=CLASSIFIER)


class PairChoice(NamedTuple):
    """Where to compare what.

    Attributes:
        student: Module path in the student.
        teacher: Module path in the teacher.
        scores: What the classes are scored with, ``'softmax'`` or ``'sigmoid'``, if it is scores
            that are compared; None for features.
    """

    student: str
    teacher: str
    scores: Optional[str] = None


def common_task(student: nn.Module, teacher: nn.Module) -> str:
    """The task of both models: detector, segmentor or classifier, by their base class.

    Raises:
        ConfigError: If it is none of the three, or not the same.
    """
    tasks = {}
    for role, model in (('student', student), ('teacher', teacher)):
        bases = [cls.__name__ for cls in type(model).__mro__]
        tasks[role] = next((task for base, task in _BASES.items() if base in bases), None)
        if tasks[role] is None:
            raise ConfigError(
                f'{role}: {type(model).__name__} is no detector, segmentor or classifier; choose '
                f'a config of one of these, or say with --pairs which modules are alike'
            )
    if tasks['student'] != tasks['teacher']:
        raise ConfigError(
            f'the student is a {tasks["student"]} and the teacher a {tasks["teacher"]}; choose a '
            f'teacher of the same task, or say with --pairs which modules are alike'
        )
    return tasks['student']


def choose_pairs(
    task: str, student: ModelView, teacher: ModelView, difference: Optional[str] = None
) -> List[PairChoice]:
    """Choose what to pair: the last features before the predictions, and scores of classes.

    Args:
        task: Of both models, see :func:`common_task`.
        student: What the student yields in evaluation and training.
        teacher: What the teacher yields in evaluation.
        difference: What is different about their classes, if it is known that something is.

    Raises:
        ConfigError: If the models have nothing in common that could be paired.
    """
    features, scores = None, None
    if task == DETECTOR:
        features = _pyramids(student, teacher)
    else:
        paths = [_feature(task, view) for view in (student, teacher)]
        if None not in paths:
            features = PairChoice(*paths)
        elif task == SEGMENTOR:
            features = _pyramids(student, teacher)
        scores = _scores(task, student, teacher, difference)
    chosen = [pair for pair in (features, scores) if pair is not None]
    if not chosen:
        views = dict(student=student, teacher=teacher)
        barren = [role for role, view in views.items() if not _pyramids_of(view)]
        raise ConfigError(
            f'no module of the {" and the ".join(barren) or "two models"} was found that yields a '
            f'feature map in neck, backbone or head; choose another model, or look for modules '
            f'with --list-modules and name them with --pairs'
        )
    return chosen


class _Pyramid(NamedTuple):
    """The maps of a neck or backbone: their number, strides, and which of them are trained."""

    path: str
    octaves: List[int]
    learns: List[bool]

    def part(self, levels: slice) -> str:
        return indexed(self.path, levels, len(self.octaves))

    def last(self) -> str:
        number = len(self.octaves)
        return self.part(slice(number - 1, number))


def _pyramids(student: ModelView, teacher: ModelView) -> Optional[PairChoice]:
    """The levels of the necks, or of the backbones, that have the same strides."""
    combinations = [(s, t) for s in _pyramids_of(student) for t in _pyramids_of(teacher)]
    for mine, others in combinations:
        learning = [o if learns else None for o, learns in zip(mine.octaves, mine.learns)]
        levels = match_levels(learning, others.octaves)
        if levels is not None:
            return PairChoice(mine.part(levels[0]), others.part(levels[1]))
    if not combinations:
        return None
    # No strides agree. The last maps mean most; the student's is resized.
    return PairChoice(*(pyramid.last() for pyramid in combinations[0]))


def _pyramids_of(view: ModelView) -> List[_Pyramid]:
    """The neck's maps, the backbone's, and if it is neither the last one inside the backbone."""
    names = [name for name in ('neck', 'backbone') if view.maps(name)]
    names = names or list(filter(None, [view.last_map('backbone')]))
    return [
        _Pyramid(name, octaves(view.maps(name), view.shape[1]), view.learns(name)) for name in names
    ]


def _feature(task: str, view: ModelView) -> Optional[str]:
    """Path of the last feature map before the scores."""
    path = _before_classifier(view) if task == SEGMENTOR else None
    return path or view.last_map('neck', 'backbone')


def _before_classifier(view: ModelView) -> Optional[str]:
    """Path of what a segmentor's classifier is given, or of the last map of its decode head."""
    if not view.complete:
        return None
    width = _num_classes(view, 4)
    inside = list(view.last_to_first('decode_head'))
    for name in inside:
        is_leaf = not any(other.startswith(f'{name}.') for other in inside)
        shape = view.tensor(name, 4)
        if is_leaf and shape is not None and shape[0] == width:
            source = view.records[name].source
            if source and source.startswith('decode_head') and view.tensor(source, 4):
                return source
            return f'{name}:input'
    for name in inside:
        shape = view.tensor(name, 4)
        if shape is not None and shape[0] != width and shape[1] * shape[2] > 1:
            return name
    return None


def _scores(
    task: str, student: ModelView, teacher: ModelView, difference: Optional[str]
) -> Optional[PairChoice]:
    """The scores of the classes, if both models have the same."""
    dimensions = 4 if task == SEGMENTOR else 2
    part = 'decode_head' if task == SEGMENTOR else 'head'
    found: Dict[str, Tuple[str, int]] = {}
    for role, view in (('student', student), ('teacher', teacher)):
        width = _num_classes(view, dimensions) if view.complete else None
        for name in view.last_to_first(part):
            shape = view.tensor(name, dimensions)
            if shape is not None and shape[0] == width:
                found[role] = name, width
                break
        else:
            print_log(f'No pair of scores: none were found in the {role}', 'current')
            return None
    (student_path, mine), (teacher_path, others) = found['student'], found['teacher']
    if mine != others:
        print_log(
            f'No pair of scores: the student knows {mine} classes, the teacher {others}', 'current'
        )
        return None
    if difference is not None:
        print_log(f'No pair of scores: {difference}', 'current')
        return None
    return PairChoice(student_path, teacher_path, kind_of_scores(student, mine))


def kind_of_scores(student: ModelView, number: int) -> str:
    """What a student scores so many classes with, ``'softmax'`` or ``'sigmoid'``."""
    several_labels = any('MultiLabelClsHead' in r.bases for r in student.records.values())
    # A softmax of one channel says nothing, and of several labels not what was learned.
    return 'sigmoid' if number == 1 or several_labels else 'softmax'


def _num_classes(view: ModelView, dimensions: int) -> Optional[int]:
    """Number of channels of what the whole model yields."""
    outputs = view.outputs(dimensions)
    return outputs[0].shape[1] if outputs else None
