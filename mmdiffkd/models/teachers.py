"""Where teachers come from: a checkpoint, or the student itself."""

from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, Optional, Sequence, Tuple, Union

from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from mmdiffkd.errors import ConfigError, UserError, check_numbers
from mmdiffkd.models.classes import is_list_of_names
from mmdiffkd.models.feature_extractor import FeatureExtractor
from mmdiffkd.models.hosts import build_model, check_keys
from mmdiffkd.models.teacher import Teacher
from mmdiffkd.models.teacher_speed import PRECISIONS
from mmdiffkd.models.teacher_weights import check_patterns, load_teacher_weights, random_teacher


class FrozenTeacher(Teacher):
    """A pretrained model that only yields features.

    Args:
        config: Config path, ``library::name`` or model dict of the teacher. In a config file this
            path and the next are looked for beside the file first.
        checkpoint: Path or URL of its weights, ``'zoo'`` for the weights that the library publishes
            for ``config``, or ``'random'`` for random weights (tests and smoke runs).
        ignore_keys: Regular expressions for checkpoint keys that may not fit.
        trust_checkpoint: Whether the checkpoint may hold objects other than weights, whose code
            runs when it is read.
        prefix: Beginning of the names of the teacher's weights in a checkpoint with others.
        classes: Names of the teacher's classes in the order of its scores; by default those in the
            checkpoint, or else in the data sets of ``config``.
        fold_bn: Whether batch norms of backbone and neck become part of the convolutions before
            them. If the features of a random image change, this is taken back with a warning.
        channels_last: Whether convolutions run on channels-last maps. If the features of a random
            image change, this is taken back with a warning.
        precision: Precision of the forward. ``'bf16'`` and ``'fp16'`` use autocast and hold the
            weights of convolutions and linear layers in that type; ``'fp32'`` stays in float32 also
            with ``--amp``; None follows the run. Features have the type of the images.
        compile: Whether the children of the model run through ``torch.compile``, except those with
            a captured module. The first steps of every image size then take long.
        input: Pictures that the teacher was trained on, where its config does not say it:
            ``dict(mean=[...], std=[...], rgb=True)`` with one number per channel of pixels from 0
            to 255, or ``'student'`` for those of the student.
        image_size: Side, or height and width, in pixels to which the student's images are resized
            for a teacher that works at one size only, as many transformers do; by default that of
            the training of a :class:`FeatureExtractor`, and none for other models.

    Raises:
        ConfigError: If a switch has an unknown value or the config cannot be built.
        CheckpointError: If the checkpoint cannot be read or does not fit.
    """

    KEYS = (
        'config', 'checkpoint', 'ignore_keys', 'trust_checkpoint', 'prefix', 'classes', 'fold_bn',
        'channels_last', 'precision', 'compile', 'input', 'image_size',
    )  # fmt: skip

    def __init__(
        self,
        config: Any,
        checkpoint: str,
        ignore_keys: Sequence[str] = (),
        trust_checkpoint: bool = False,
        prefix: str = '',
        classes: Optional[Sequence[str]] = None,
        fold_bn: bool = True,
        channels_last: bool = True,
        precision: Optional[str] = None,
        compile: bool = False,
        input: Any = None,
        image_size: Union[int, Sequence[int], None] = None,
    ) -> None:
        check_patterns(ignore_keys)
        switches = dict(fold_bn=fold_bn, channels_last=channels_last, compile=compile)
        for name, value in dict(switches, trust_checkpoint=trust_checkpoint).items():
            if not isinstance(value, bool):
                raise ConfigError(f'teacher.{name} must be True or False, got {value!r}')
        if classes is not None and not is_list_of_names(classes):
            raise ConfigError(f'teacher.classes must be a list of names, got {classes!r}')
        if precision not in (None, *PRECISIONS):
            raise ConfigError(
                f'teacher.precision must be None, {", ".join(map(repr, PRECISIONS))}, got '
                f'{precision!r}'
            )
        if image_size is not None:
            sides = (image_size,) * 2 if isinstance(image_size, int) else tuple(image_size)
            if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
                raise ConfigError(
                    f'teacher.image_size must be a number of pixels, or height and width, got '
                    f'{image_size!r}'
                )
            image_size = sides
        self.has_random_weights = checkpoint == 'random'
        if self.has_random_weights:
            model = random_teacher(config)
        else:
            model = build_model(config, 'teacher.config')
            listed = load_teacher_weights(
                model, config, checkpoint, ignore_keys, trust_checkpoint, prefix
            )
            classes = classes or listed
        if isinstance(model, FeatureExtractor):
            image_size = image_size or model.image_size
        super().__init__(model, config, input, classes, precision, image_size, **switches)


class AveragedTeacher(Teacher):
    """The moving average of the student's weights in training, as mmengine's EMA computes it.

    It begins as a copy of the student, and is updated before each training step. Its buffers, such
    as running statistics, are the student's. The distiller saves it, as resuming needs it.

    Args:
        student: Model to average.
        momentum: Share of the student's weights that goes into the average in each step.
        begin: Number of steps in which the average remains a copy of the student.
    """

    KEYS = ('momentum', 'begin')
    predicts = False  # before a training it knows nothing

    def __init__(self, student: nn.Module, momentum: float = 0.001, begin: int = 0) -> None:
        check_numbers(0, float, where='teacher.average.', momentum=momentum)
        check_numbers(0, int, where='teacher.average.', begin=begin)
        if not 0 < momentum < 1:
            raise ConfigError(f'teacher.average.momentum must be between 0 and 1, got {momentum}')
        self.average = StudentAverage(student, momentum, begin)
        super().__init__(self.average.module, {}, 'student')


class StudentAverage(ExponentialMovingAverage):
    """The weights of an :class:`AveragedTeacher`; always in evaluation mode."""

    def __init__(self, student: nn.Module, momentum: float, begin: int) -> None:
        super().__init__(student, momentum)
        self.begin = begin

    def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: Any) -> None:
        """Move the average towards the student, or copy the student before the begin."""
        if steps < self.begin:
            averaged_param.copy_(source_param)
        else:
            super().avg_func(averaged_param, source_param, steps)

    def train(self, mode: bool = True) -> 'StudentAverage':
        """Stay in evaluation mode."""
        return super().train(False)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the config key of one of several teachers in front of errors about it."""
    try:
        yield
    except UserError as error:
        raise type(error)(f'teachers.{name}: {error}' if name else str(error)) from error


def build_teachers(single: Any, several: Any, student: nn.Module) -> Dict[str, Teacher]:
    """Build the teachers of a student.

    A config has the arguments of :class:`FrozenTeacher`, or is ``dict(average=...)`` with those of
    :class:`AveragedTeacher`.

    Args:
        single: Config of the only teacher, or None.
        several: Name -> config, or None.
        student: Student, as it was built.

    Returns:
        The teachers by their names; a single one has the name ``''``.
    """
    if (single is None) == (several is None):
        raise ConfigError(
            'teacher=dict(config=..., checkpoint=...) is required, or in its place '
            'teachers=dict(name=dict(config=..., checkpoint=...), ...)'
        )
    if several is None:
        return {'': _build(single, student)}
    if not isinstance(several, dict) or not all(map(str.isidentifier, map(str, several))):
        raise ConfigError(f'teachers must be a dict from names to teachers, got {several!r}')
    teachers = {}
    for name, cfg in several.items():
        with naming(name):
            teachers[name] = _build(cfg, student)
    return teachers


def _build(cfg: Any, student: nn.Module) -> Teacher:
    if isinstance(cfg, dict) and 'average' in cfg:
        check_keys(cfg, ('average',), (), 'teacher')
        check_keys(cfg['average'], AveragedTeacher.KEYS, (), 'teacher.average')
        return AveragedTeacher(student, **cfg['average'])
    check_keys(cfg, FrozenTeacher.KEYS, ('config', 'checkpoint'), 'teacher')
    return FrozenTeacher(**cfg)


def split_path(text: str, teachers: Iterable[str], where: str) -> Tuple[str, str]:
    """Split the path of a pair's teacher, ``path`` or ``name:path``.

    Args:
        text: The path as it is in the config.
        teachers: Names of the teachers.
        where: Config key of the path.

    Returns:
        The name of the teacher and the path in it.
    """
    names = [*teachers]
    if names == ['']:
        return '', text
    name, _, path = str(text).partition(':')
    if name not in names or not path:
        raise ConfigError(
            f'{where}: {text!r} does not begin with the name of a teacher, as in '
            f"'{names[0]}:neck' (teachers: {', '.join(names)})"
        )
    return name, path
