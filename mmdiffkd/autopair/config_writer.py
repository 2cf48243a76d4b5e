"""Write a distillation config as a person would."""

import ast
import os
import shlex
import tempfile
from itertools import count
from pathlib import Path
from typing import Any, Dict, Sequence

from mmengine.config import Config
from mmengine.logging import print_log

from mmdiffkd.autopair.model_view import MapShape
from mmdiffkd.autopair.pair_recipes import PairRecipe
from mmdiffkd.errors import ConfigError

_INDENT = '    '
# Longest line of a config.
_WIDTH = 100

_TEMPLATE = """\
# {teacher_name} teaches {student_name}.
#
# Teacher    {teacher}
# Student    {student}
# Command    python tools/train.py \\
#                {path} \\
#                --work-dir {work_dir}
#
# Made by tools/distill.py, and a config like any other: change it and train with the command above.
# Data, schedule and evaluation are the student's own; what is set here replaces what it has.
_base_ = {base!r}

model = dict(
    _delete_=True,
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
{teacher_block}
    # One entry per place where the student is compared with the teacher. Paths are module names as
    # `tools/distill.py ... --list-modules` shows them; channels and sizes are found out.
    pairs=dict(
{pairs}
    ),
)

# What happens, as pictures of the features and as curves for every level: see vis_data in the work
# directory, and tools/analysis/plot_run.py.
custom_hooks = [
{inherited_hooks}    dict(type='mmdiffkd.FeaturePictureHook', interval=500),
    dict(type='mmdiffkd.TelemetryHook', interval=50),
]
"""

_INHERITED_HOOKS = f'{_INDENT}*_base_.custom_hooks,\n'

_CLIPPING = """
# The heads start from nothing; without clipping their first gradients can be large.
optim_wrapper = dict(clip_grad=dict({replacing}max_norm=35, norm_type=2))
"""


def config_text(
    path: Path,
    student: str,
    teacher: str,
    checkpoint: str,
    pairs: Sequence[PairRecipe],
    student_config: Config,
) -> str:
    """The text of a config.

    Args:
        path: Where it will be, in ``config`` below the work directory.
        student: Config of the student, a path or a ``library::name``.
        teacher: Config of the teacher, likewise.
        checkpoint: Of the teacher, as ``teacher.checkpoint`` takes it.
        pairs: What to pair.
        student_config: What ``student`` names. Gradient clipping is added if it has none.
    """
    base, teacher_location = located(student), located(teacher)
    teacher_block = _entry('teacher', dict(config=teacher_location, checkpoint=checkpoint), 1)
    if checkpoint == 'random':
        note = '# Random weights teach nothing: put the path of its checkpoint here to train.'
        teacher_block = f'{_INDENT}{note}\n{teacher_block}'
    text = _TEMPLATE.format(
        teacher_name=Path(teacher).stem,
        student_name=Path(student).stem,
        teacher=teacher_location,
        student=base,
        path=shlex.quote(str(path)),
        work_dir=shlex.quote(str(path.parent.parent)),
        base=base,
        teacher_block=teacher_block,
        pairs='\n'.join(_pair(recipe) for recipe in pairs),
        # A list in a config replaces that of its base.
        inherited_hooks=_INHERITED_HOOKS if student_config.get('custom_hooks') else '',
    )
    optim_wrapper = student_config.optim_wrapper
    if optim_wrapper.get('clip_grad') is not None:
        return text
    # A None in the base cannot be merged with a dict.
    return text + _CLIPPING.format(replacing='_delete_=True, ' * ('clip_grad' in optim_wrapper))


def located(config: str) -> str:
    """A config's ``library::name`` as it is, a path made absolute."""
    return config if '::' in config else str(Path(config).expanduser().resolve())


def write_config(path: Path, text: str) -> None:
    """Write a config, whole or not at all; what stands there and differs is kept beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.read_text() != text:
        names = (path.with_name(f'{path.stem}_old{number}.py') for number in count(1))
        kept = next(name for name in names if not name.exists())
        os.replace(path, kept)
        print_log(f'{path} was there and differs; it is now {kept.name}', 'current')
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.stem}-')
    with os.fdopen(handle, 'w') as stream:
        stream.write(text)
    Path(partial).chmod(0o644)  # mkstemp makes private files
    os.replace(partial, path)


def _pair(recipe: PairRecipe) -> str:
    """The entry of a pair, with what it yields above it."""
    comments = []
    if recipe.student_maps:
        _, height, width = recipe.image
        comments = [
            f'# Maps of an image of {height}x{width}, channels x height x width:',
            f'#   student  {_shapes(recipe.student_maps)}',
            f'#   teacher  {_shapes(recipe.teacher_maps)}',
        ]
    lines = [f'{2 * _INDENT}{comment}' for comment in comments]
    return '\n'.join([*lines, _entry(recipe.name, recipe.config, 2)])


def _shapes(maps: Sequence[MapShape]) -> str:
    return ', '.join('x'.join(map(str, shape)) for shape in maps)


def _entry(key: str, value: Any, depth: int) -> str:
    """``key=value,`` of a ``dict(...)``, on one line if it fits and holds no other dict."""
    indent = depth * _INDENT
    line = f'{indent}{key}={_literal(value)},'
    if not isinstance(value, dict) or not _has_names(value):
        return line
    if len(line) <= _WIDTH and not any(isinstance(item, dict) for item in value.values()):
        return line
    entries = '\n'.join(_entry(k, v, depth + 1) for k, v in value.items())
    return f'{indent}{key}=dict(\n{entries}\n{indent}),'


def _has_names(value: Dict) -> bool:
    """Whether a dict can be written as ``dict(key=value)``."""
    return all(isinstance(key, str) and key.isidentifier() for key in value)


def _literal(value: Any) -> str:
    """A value as Python source."""
    if isinstance(value, dict):
        if _has_names(value):
            return f'dict({", ".join(f"{k}={_literal(v)}" for k, v in value.items())})'
        return '{' + ', '.join(f'{k!r}: {_literal(v)}' for k, v in value.items()) + '}'
    text = repr(value)
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ConfigError(
            f'pairs: {text} cannot be written into a config; use plain values, and names for types'
        ) from None
    return text
