"""The input formats of student and teacher, and the conversion between them."""

from typing import Any, Dict, Iterable, NamedTuple, Optional

from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import nn

from mmdiffkd.errors import ConfigError
from mmdiffkd.models.configs import load_config, scope_of
from mmdiffkd.models.dry_run import ImageShape, ImageShapes
from mmdiffkd.models.preprocessing import InputConverter, InputFormat, pad_value_of
from mmdiffkd.models.probing import Probe, pipeline_of, probe, sample_shape

_FORMAT = 'dict(mean=[...], std=[...], rgb=True)'


class StudentInput(NamedTuple):
    """The batches that the student gets.

    Attributes:
        format: Format of the batches, or None if it is not known.
        prepared: Format that the data preprocessor alone makes of plain pixels, or None.
        channels: Number of channels.
        shape: Channels, height and width of an image, or None if they vary or are not known.
        shapes: Shapes of made-up images to try, the most likely first.
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
    """Find out which batches a student gets.

    Args:
        student: The student model.
        data: ``train_dataloader`` of the run, or None if it is not known.
        given: ``student_input`` of the config, or None.
    """
    convolutions = (
        m for m in student.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    )
    channels = next((convolution.in_channels for convolution in convolutions), 3)
    preprocessor = student.data_preprocessor
    pipeline = pipeline_of((data or {}).get('dataset'))
    found = probe(pipeline, preprocessor, channels)
    alone = found if pipeline is None else probe(None, preprocessor, channels, found.rgb)

    def sample() -> Optional[ImageShape]:
        try:
            return sample_shape(data, preprocessor) if data else None
        except Exception as error:
            # The data loader will raise if files are missing.
            print_log(f'No image size could be read off the training data: {error!r}', 'current')
            return None

    if pipeline is None:
        shape = sample()
        channels = channels if shape is None else shape[0]
    elif found.channels is None:
        raise ConfigError(
            'train_dataloader: its pipeline yields several pictures for each sample (views, '
            'branches); choose a student that is trained on single pictures'
        )
    else:
        shape, channels = found.shape, found.channels
    known = found.format if found.is_known else None
    if given is not None:
        known = InputFormat.from_config(given, 'student_input', pad_value_of(preprocessor))
    shapes = ImageShapes(channels, shape, sample)
    return StudentInput(known, alone.format, channels, shape, shapes, found.rgb)


def teacher_converter(
    config: Any, model: nn.Module, given: Any, student: StudentInput
) -> InputConverter:
    """Make the converter from the student's batches to the teacher's, and log both formats.

    Args:
        config: ``teacher.config``.
        model: The teacher model.
        given: ``teacher.input``: None, ``'student'`` or a dict with ``mean``, ``std`` and ``rgb``.
        student: The batches of the student.

    Raises:
        ConfigError: If one of the formats is unknown; the message names the key that gives it.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    alone = probe(None, preprocessor, student.channels, student.rgb)
    found = _teacher_probe(config, preprocessor, alone, student.channels)
    if given == 'student' or (given is None and _takes_students(config, found, alone, student)):
        print_log(
            f"The teacher's input is the student's ({student.format or 'unknown'})", 'current'
        )
        pixels = InputFormat.from_numbers([0], [1], rgb=False)
        return InputConverter(pixels, pixels)
    wanted = found.format if found.is_known else None
    if given is not None:
        wanted = InputFormat.from_config(given, 'teacher.input', pad_value_of(preprocessor))
    if wanted is None:
        raise ConfigError(
            f"teacher.input: it cannot be known how the teacher's pictures were normalised, "
            f'neither from its data_preprocessor nor from a pipeline of its config; give '
            f"teacher.input={_FORMAT}, or 'student' if it takes the student's as they are"
        )
    if student.format is None:
        raise ConfigError(
            f"student_input: it cannot be known how the student's pictures are normalised, neither "
            f'from its data_preprocessor nor from a pipeline of its data; give '
            f"student_input={_FORMAT} in model, or teacher.input='student' if the teacher takes "
            f"the same (another library's train.py needs runner_type='mmdiffkd.DistillRunner')"
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
    """Whether there is no sign that the teacher's format differs from the student's."""
    if isinstance(config, dict) and config.get('data_preprocessor') is None:
        return True
    if found.is_known or alone.format is None or student.prepared is None:
        return False
    # Neither preprocessor normalises, and the teacher's data transforms are not known. A dict is
    # part of the student's own config, whose transforms then hold for both.
    same = InputConverter(student.prepared, alone.format).is_identity
    return same and (isinstance(config, dict) or student.format is None)


def _teacher_probe(
    config: Any, preprocessor: Optional[nn.Module], alone: Probe, channels: int
) -> Probe:
    """The batches that the teacher's own config makes, with its pipeline if it has one."""
    if isinstance(config, dict):
        return alone
    cfg = load_config(config, 'teacher.config')
    loaders = (cfg.get(f'{split}_dataloader') for split in ('test', 'val', 'train'))
    pipelines = (pipeline_of((loader or {}).get('dataset')) for loader in loaders)
    pipeline = next((p for p in pipelines if p is not None), None)
    if pipeline is None:
        return alone
    with DefaultScope.overwrite_default_scope(scope_of(cfg, config)):
        return probe(pipeline, preprocessor, channels)
