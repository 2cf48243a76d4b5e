"""Which pictures the student's batches hold, which the teacher wants, and what lies between."""

from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import nn

from mmdiffkd.errors import ConfigError
from mmdiffkd.models.dry_run import ImageShape, ImageShapes
from mmdiffkd.models.hosts import load_config, scope_of
from mmdiffkd.models.preprocessing import InputConverter, InputFormat, pad_value_of
from mmdiffkd.models.probing import Probe, pipeline_of, probe, sample_shape

AS_STUDENT = 'student'
"""Value of ``teacher.input`` for a teacher that takes the student's pictures as they are."""

_KEYS = 'dict(mean=[...], std=[...], rgb=True)'


class StudentInput(NamedTuple):
    """What the student's batches look like.

    Attributes:
        format: Of its pixels; None if it is not known.
        prepared: What the data preprocessor alone does to plain pixels, or None.
        channels: Number of channels of an input.
        shape: Channels, height and width of an input, or None if they differ or are not known.
        shapes: Shapes of made-up inputs to try, the most likely first.
        rgb: Whether the pixels of the data set are in RGB order.
    """

    format: Optional[InputFormat]
    prepared: Optional[InputFormat]
    channels: int
    shape: Optional[ImageShape]
    shapes: Iterable[ImageShape]
    rgb: bool


def find_student_input(
    student: nn.Module, data: Optional[Dict] = None, given: Optional[Dict] = None
) -> StudentInput:
    """Find out what a student's batches look like.

    Args:
        student: The model.
        data: ``train_dataloader`` of the run, or None if it is not known.
        given: ``student_input`` of the config, or None.
    """
    channels = _channels(student)
    preprocessor = student.data_preprocessor
    pipeline = pipeline_of((data or {}).get('dataset'))
    found = probe(pipeline, preprocessor, channels)
    alone = found if pipeline is None else probe(None, preprocessor, channels, found.rgb)

    def sample() -> Optional[ImageShape]:
        try:
            return sample_shape(data, preprocessor) if data else None
        except Exception as error:
            # Files that are not there are the data loader's to complain about.
            print_log(f'No image size could be read off the training data: {error!r}', 'current')
            return None

    if pipeline is not None and found.channels is None:
        raise ConfigError(
            'train_dataloader: its pipeline yields several pictures for each sample (views, '
            'branches); choose a student that is trained on single pictures'
        )
    shape = found.shape if pipeline is not None else sample()
    known = found.format if found.is_known else None
    if given is not None:
        known = InputFormat.from_config(given, 'student_input', pad_value_of(preprocessor))
    if pipeline is not None:
        channels = found.channels
    elif shape is not None:
        channels = shape[0]
    shapes = ImageShapes(channels, shape, sample)
    return StudentInput(known, alone.format, channels, shape, shapes, found.rgb)


def _channels(model: nn.Module) -> int:
    """Number of channels that a model's first convolution takes; 3 if it has none."""
    convolutions = (m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d)))
    return next((convolution.in_channels for convolution in convolutions), 3)


def teacher_converter(
    config: Any, model: nn.Module, given: Any, student: StudentInput
) -> InputConverter:
    """Make the teacher's pictures of the student's, and say in the log which they are.

    Args:
        config: ``teacher.config``.
        model: The teacher.
        given: ``teacher.input``: None, ``'student'`` or a dict with ``mean``, ``std`` and ``rgb``.
        student: What the student's batches look like.

    Raises:
        ConfigError: If it cannot be known what the student's pictures are or what the teacher's
            have to be; the message names the key that says it.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    alone = probe(None, preprocessor, student.channels, student.rgb)
    found = _teacher_probe(config, preprocessor, alone, student.channels)
    if given is None and _takes_students(config, found, alone, student):
        given = AS_STUDENT
    if given == AS_STUDENT:
        print_log(
            f"The teacher gets the student's pictures as they are ({student.format or 'unknown'})",
            'current',
        )
        return _identity()
    wanted = found.format if found.is_known else None
    if given is not None:
        wanted = InputFormat.from_config(given, 'teacher.input', pad_value_of(preprocessor))
    if wanted is None:
        raise ConfigError(
            f'teacher.input: it cannot be known what pictures the teacher was trained on, as '
            f'neither its data_preprocessor nor a pipeline of its config says how they are '
            f"normalised; say it with teacher.input={_KEYS}, or 'student' if it takes the "
            f"student's as they are"
        )
    if student.format is None:
        raise ConfigError(
            f"student_input: it cannot be known what the student's pictures are, as neither its "
            f'data_preprocessor nor a pipeline of its data says how they are normalised; say it '
            f'with student_input={_KEYS} in model, or teacher.input={AS_STUDENT!r} if the teacher '
            f"takes the same (another library's train.py needs "
            f"runner_type='mmdiffkd.DistillRunner')"
        )
    if len(student.format.mean) not in (1, len(wanted.mean)) and len(wanted.mean) != 1:
        raise ConfigError(
            f"teacher.input: the student's pictures have {len(student.format.mean)} channels, the "
            f"teacher's {len(wanted.mean)}; choose a teacher for the same kind of pictures"
        )
    converter = InputConverter(student.format, wanted)
    done = 'the same' if converter.is_identity else f'converted to {wanted}'
    print_log(f"Student's pictures: {student.format}; the teacher's: {done}", 'current')
    return converter


def _takes_students(config: Any, found: Probe, alone: Probe, student: StudentInput) -> bool:
    """Whether nothing tells the teacher's pictures from the student's."""
    if isinstance(config, dict) and config.get('data_preprocessor') is None:
        # As mmpretrain's model dicts: the preprocessing is the run's.
        return True
    if found.is_known or alone.format is None or student.prepared is None:
        return False
    # Neither preprocessor normalises: what does is in the data, whose transforms are not known. A
    # dict is in the student's own config; of another config that is known as little of both.
    same = InputConverter(student.prepared, alone.format).is_identity
    return same and (isinstance(config, dict) or student.format is None)


def _teacher_probe(
    config: Any, preprocessor: Optional[nn.Module], alone: Probe, channels: int
) -> Probe:
    """What the teacher's own config makes of pictures."""
    if isinstance(config, dict):
        return alone
    cfg = load_config(config, 'teacher.config')
    loaders = (cfg.get(f'{split}_dataloader') for split in ('test', 'val', 'train'))
    pipelines: List = [pipeline_of((loader or {}).get('dataset')) for loader in loaders]
    pipeline = next((p for p in pipelines if p is not None), None)
    if pipeline is None:
        return alone
    with DefaultScope.overwrite_default_scope(scope_of(cfg, config)):
        return probe(pipeline, preprocessor, channels)


def _identity() -> InputConverter:
    pixels = InputFormat.from_numbers([0], [1], rgb=False)
    return InputConverter(pixels, pixels)
