"""The input formats of student and teacher, and the conversion between them."""

from functools import partial
from typing import Any, Dict, NamedTuple, Optional

from mmengine.registry import DefaultScope
from torch import nn

from mmdiffkd.errors import ConfigError
from mmdiffkd.messages import tell
from mmdiffkd.models.configs import load_config, scope_of
from mmdiffkd.models.dry_run import ImageShape, ImageShapes
from mmdiffkd.models.preprocessing import InputConverter, InputFormat
from mmdiffkd.models.probing import Probe, pipeline_of, probe, sample_shape


class StudentInput(NamedTuple):
    """The batches that the student gets.

    ``format`` and ``shape`` (channels, height and width) are None if they are not known or vary.
    ``shapes`` are those of made-up images to try, the most likely first. ``alone`` is what the data
    preprocessor makes of plain pixels, without the data transforms.
    """

    format: Optional[InputFormat]
    shape: Optional[ImageShape]
    shapes: ImageShapes
    alone: Probe


def find_student_input(
    student: nn.Module, data: Optional[Dict] = None, given: Optional[Dict] = None
) -> StudentInput:
    """Find out which batches a student gets.

    ``data`` is the ``train_dataloader`` of the run, and ``given`` is ``student_input``, if known.
    """
    convolutions = (module for module in student.modules() if isinstance(module, nn.Conv2d))
    channels = next((convolution.in_channels for convolution in convolutions), 3)
    if any(type(module).__name__ == 'Focus' for module in student.modules()):
        channels //= 4  # YOLOX puts the pixels of 2x2 squares into channels first.
    preprocessor = student.data_preprocessor
    pipeline = pipeline_of((data or {}).get('dataset'))
    found = probe(pipeline, preprocessor, channels)
    alone = found if pipeline is None else probe(None, preprocessor, channels, found.rgb)

    sample = partial(sample_shape, data, preprocessor)
    shape = sample() if pipeline is None else found.shape
    channels = shape[0] if shape else found.channels or channels
    known = found.format if found.is_known else None
    if given is not None:
        known = InputFormat.from_config(given, 'student_input', preprocessor)
    return StudentInput(known, shape, ImageShapes(channels, shape, sample), alone)


def teacher_converter(
    config: Any, model: nn.Module, given: Any, student: StudentInput
) -> InputConverter:
    """Make the converter from the student's batches to the teacher's, and log both formats.

    ``config`` is ``teacher.config``, ``given`` is ``teacher.input``. If one of the formats is
    unknown, a :class:`ConfigError` names the key that gives it.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    alone = found = probe(None, preprocessor, student.shapes.channels, student.alone.rgb)
    if not isinstance(config, dict):
        found = _probe_file(config, preprocessor, student.shapes.channels) or alone
    if given == 'student' or (given is None and _takes_students(config, found, alone, student)):
        what = f' ({student.format})' if student.format is not None else ''
        tell(f"The teacher gets the student's pictures as they are{what}")
        pixels = InputFormat.from_numbers([0], [1], rgb=False)
        return InputConverter(pixels, pixels)
    wanted = found.format if found.is_known else None
    if given is not None:
        wanted = InputFormat.from_config(given, 'teacher.input', preprocessor)
    for key, known in (('teacher.input', wanted), ('student_input', student.format)):
        if known is None:
            raise ConfigError(
                f'{key}: it cannot be known how the pictures are normalised, neither from the '
                f'data_preprocessor nor from a pipeline; give {key}=dict(mean=[...], std=[...], '
                f"rgb=True), or teacher.input='student' if the teacher takes the student's; a "
                f"train.py of another library needs runner_type='mmdiffkd.DistillRunner'"
            )
    ours, theirs = len(student.format.mean), len(wanted.mean)
    if ours != theirs:
        raise ConfigError(
            f"student_input: the student's pictures have {ours} channels, the teacher's {theirs}"
        )
    converter = InputConverter(student.format, wanted)
    both = str(student.format) == str(wanted)
    text = 'the same' if both else wanted
    tell(f'Input of the student: {student.format}; of the teacher: {text}')
    return converter


def _takes_students(config: Any, found: Probe, alone: Probe, student: StudentInput) -> bool:
    """Whether there is no sign that the teacher's format differs from the student's."""
    if found.is_known:
        return False
    if isinstance(config, dict) and config.get('data_preprocessor') is None:
        return True
    if alone.format is None or student.alone.format is None:
        return False
    # Neither preprocessor normalises, and the teacher's data transforms are not known. A dict is
    # part of the student's own config, whose transforms then hold for both.
    same = InputConverter(student.alone.format, alone.format).is_identity
    return same and (isinstance(config, dict) or student.format is None)


def _probe_file(config: Any, preprocessor: Any, channels: int) -> Optional[Probe]:
    """The batches that a teacher's config file makes with its pipeline, or None without one."""
    cfg = load_config(config, 'teacher.config')
    with DefaultScope.overwrite_default_scope(scope_of(cfg, config)):
        for split in ('test', 'val', 'train'):
            pipeline = pipeline_of((cfg.get(f'{split}_dataloader') or {}).get('dataset'))
            if pipeline is not None:
                return probe(pipeline, preprocessor, channels)
    return None
