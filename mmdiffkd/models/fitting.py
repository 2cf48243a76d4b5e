"""Fitting pairs to two models, by what these yield for made-up images."""

from typing import Callable, Iterable, Sequence, Tuple

from mmengine.logging import print_log
from torch import Tensor, nn

from mmdiffkd.capture import FeatureCapture
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.classes import Classes, check_classes
from mmdiffkd.models.dry_run import (
    TRIAL_SIDE,
    ImageShape,
    blaming,
    blank_batch,
    first_accepted,
    random_batch,
    undisturbed,
)
from mmdiffkd.models.hosts import run_for_features
from mmdiffkd.models.pair import DistillPair
from mmdiffkd.models.pair_checks import check_levels, check_teaches, find_layouts
from mmdiffkd.models.teacher import Teacher
from mmdiffkd.models.teacher_speed import Features


def check_student(student: nn.Module) -> None:
    """Raise :class:`ConfigError` if a student lacks something, or has names of the distiller."""
    if not hasattr(student, 'data_preprocessor'):
        raise ConfigError(
            f'student: {type(student).__name__} has no data_preprocessor; give it one with '
            f'model.data_preprocessor'
        )
    for name in ('student', 'teacher'):
        if hasattr(student, name):
            raise ConfigError(
                f'student: {type(student).__name__} has a module {name!r} of its own, which hooks '
                f"would confuse with the distiller's; distil a model without one, such as the "
                f'detector inside a semi-supervised one'
            )


def fit_pairs(
    pairs: Sequence[DistillPair],
    capture: FeatureCapture,
    teacher: Teacher,
    shapes: Iterable[ImageShape],
    classes: Callable[[], Classes],
) -> None:
    """Build the heads of pairs for the shapes seen in one forward of a blank image, and try them.

    Also makes the teacher cheap, as its switches say.

    Args:
        pairs: Pairs without heads that learn from one teacher.
        capture: Capture of all that the pairs need of the student.
        teacher: Prepared teacher.
        shapes: Shapes of images to try, channels, height and width, the most likely first.
        classes: Function that yields the names of the student's classes, asked if necessary.

    Raises:
        ConfigError: If a model, a head or a loss cannot work.
    """
    if not pairs:
        raise ConfigError('no pair learns from this teacher')
    image, features, targets = first_accepted(
        shapes, lambda shape: dry_forward(pairs, capture, teacher, shape)
    )
    shape = tuple(image.shape[1:])
    calls = dict(capture.calls), dict(teacher.capture.calls)
    for pair in pairs:
        find_layouts(pair, 'student', capture.model, shape, features[pair.student_path])
        find_layouts(pair, 'teacher', teacher.model, shape, targets[pair.name])
    optimize_teacher(pairs, teacher, shape, features)
    for pair in pairs:
        with blaming(f'pairs.{pair.name}', image):
            maps = pair.maps(features, targets[pair.name], image)
            numbers = calls[0][pair.student_path], calls[1][pair.teacher_path]
            check_levels(pair, maps, shape[1], numbers)
            pair.build_heads(*maps, teacher.model)
            check_classes(pair, maps, classes, teacher)
            with undisturbed(pair):
                check_teaches(pair, features, targets[pair.name], image)
        sizes = [', '.join('x'.join(map(str, m.shape[1:])) for m in part) for part in maps]
        pair.summary = (
            f'student {pair.student_path} ({sizes[0]}) learns from '
            f'{" ".join(filter(None, ("teacher", pair.teacher_name, pair.teacher_path)))} '
            f'({sizes[1]})'
        )
        print_log(f'pairs.{pair.name}: {pair.summary}', 'current')


def dry_forward(
    pairs: Sequence[DistillPair],
    capture: FeatureCapture,
    teacher: Teacher,
    shape: ImageShape,
) -> Tuple[Tensor, Features, Features]:
    """A blank image, its features of the student by path, and those of the teacher by pair."""
    image, samples = blank_batch(shape)
    with undisturbed(capture.model):
        with blaming('student', image), capture as features:
            run_for_features(capture.model, features, image, samples)
        with blaming('teacher', image):
            # First without inputs of the student: behind these a host may fail, and then it must
            # be known where the forward can end.
            plain = [pair for pair in pairs if not pair.replaced]
            targets = teacher.features(image, samples, plain, features)
            if len(plain) < len(pairs):
                targets = teacher.features(image, samples, pairs, features)
    return image, features, targets


def optimize_teacher(
    pairs: Sequence[DistillPair], teacher: Teacher, shape: ImageShape, features: Features
) -> None:
    """Make the teacher cheap; random images show that its features stay the same.

    ``features`` are the student's, by path, of one image of that shape.
    """
    # Small images are faster, but what the student's modules got belongs to its own image. Two of
    # them, because a view that joins images fails in channels-last format for several alone.
    fed = any(pair.replaced for pair in pairs)
    small = (shape[0], TRIAL_SIDE, TRIAL_SIDE)

    def optimize(shape: ImageShape) -> None:
        images, samples = random_batch(shape, 1 if fed else 2)
        with blaming('teacher', images):
            run = lambda: teacher.features(images, samples, pairs, features)  # noqa: E731
            teacher.optimize(run, [path.module for pair in pairs for path in pair.replaced])

    first_accepted([shape] if fed else [small, shape], optimize)
