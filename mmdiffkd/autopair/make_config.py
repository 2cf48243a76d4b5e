"""From the names of a student and a teacher to the text of a config."""

import shlex
from functools import partial
from itertools import count
from pathlib import Path
from textwrap import indent
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mmdiffkd.autopair import methods
from mmdiffkd.autopair import pairs as rules
from mmdiffkd.autopair.survey import survey
from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.command_line import command_of
from mmdiffkd.errors import ConfigError
from mmdiffkd.messages import tell
from mmdiffkd.models import classes
from mmdiffkd.models.configs import load_config, untrained_config
from mmdiffkd.models.dry_run import SIDES
from mmdiffkd.models.fitting import check_student
from mmdiffkd.models.hosts import build_model
from mmdiffkd.models.input_matching import StudentInput, find_student_input
from mmdiffkd.models.shapes import Size

Pairs = Union[str, Sequence[str], Dict[str, Dict]]

_TEMPLATE = """\
# {names}.
# This config was written by `{distill}`. Change what you like, and train with
#     {train} {path} --work-dir {work_dir}
# Data, schedule and evaluation are those of the student's config, which is the base.
_base_ = {student!r}

model = dict(
    _delete_=True,  # replaces the model of the base, which becomes the student
    type='mmdiffkd.DiffKDDistiller',
    student=_base_.model,
    teacher=dict(
        config={teacher!r},
        checkpoint={checkpoint!r},{note}
{image_size}    ),
    # What is compared: the output of a module in the student, {head}
    # with that of a module in the teacher. The names of all modules are listed by
    #     {distill} {models} --list-modules
    pairs=dict(
{pairs}    ),
)

# Pictures of the features and values for every level, in {work_dir}/<time>/vis_data.
# The curves are drawn by
#     {plot_run} {work_dir}
custom_hooks = [
{inherited_hooks}    dict(type='mmdiffkd.FeaturePictureHook', interval=500),
    dict(type='mmdiffkd.TelemetryHook', interval=50),
]
"""
_NOTES = dict(
    random='  # random weights teach nothing: put the path of its weights here',
    zoo='  # the weights that the library publishes for this config',
)
_CLIPPING = """
# {reason}
optim_wrapper = dict(clip_grad=dict({replacing}max_norm=35, norm_type=2))
"""


def make_config(
    path: Path,
    student: str,
    teacher: str,
    teacher_checkpoint: Optional[str] = None,
    pairs: Optional[Pairs] = None,
    smoke: bool = False,
    method: str = 'diffkd',
) -> str:
    """The text of the config that :func:`mmdiffkd.apis.distill` writes to ``path`` and trains."""
    by = '' if method == 'diffkd' else f' by {method}'
    if by and pairs and isinstance(pairs, dict):
        raise ConfigError(f'method={method!r} has its own heads and losses; give paths as pairs')
    checkpoint = teacher_weights(teacher, teacher_checkpoint, smoke)
    cfg = load_config(student, 'student')
    comments: Dict[str, str] = {}
    size: Optional[Size] = None
    if not isinstance(pairs, dict):
        models = [_build(student, 'student'), _build(teacher, 'teacher')]
        # The student's data may be read for the size of its images.
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            pairs, comments, size = _pairs(cfg, models, pairs, teacher, checkpoint, method)
    shown = [_pair(name, pair, comments.get(name, '')) for name, pair in pairs.items()]
    text = _TEMPLATE.format(
        names=f'{Path(teacher).stem} teaches {Path(student).stem}' + by,
        head='after a head if there is one,' if by else 'projected and denoised by the head,',
        distill=command_of('distill'),
        train=command_of('train'),
        plot_run=command_of('analysis/plot_run'),
        models=shlex.join([locate(student), '--teacher', locate(teacher)]),
        teacher=locate(teacher),
        student=locate(student),
        path=shlex.quote(str(path)),
        work_dir=shlex.quote(str(path.parent.parent)),
        checkpoint=checkpoint,
        note=_NOTES.get(checkpoint, ''),
        image_size=f'{8 * " "}image_size={size},  # it takes no other\n' if size else '',
        pairs=indent(''.join([*shown, comments.get('', '')]), 8 * ' '),
        # A list in a config replaces that of its base.
        inherited_hooks='    *_base_.custom_hooks,\n' if cfg.get('custom_hooks') else '',
    )
    return text + clipping_of(cfg, method)


def clipping_of(student: Config, method: str) -> str:
    """What the text of a method's config adds if the student's config clips no gradients."""
    clipping = student.optim_wrapper.get('clip_grad', {})
    # A None in the base cannot be merged with a dict.
    replacing = '_delete_=True, ' if clipping is None else ''
    reason = 'Gradients are clipped in the same way for all methods.'
    if method == 'diffkd':
        reason = (
            'The heads start from nothing; without clipping their first gradients can be large.'
        )
    return '' if clipping else _CLIPPING.format(replacing=replacing, reason=reason)


def list_modules(student: str, teacher: str) -> str:
    """Tables of what the modules of two configs' models yield for one image."""
    tables = []
    for role, config in (('student', student), ('teacher', teacher)):
        model = _build(config, role)
        found = survey(model, role, find_student_input(model).shapes)
        tables.append(found.table(f'{role}: {type(model).__name__} of {config}'))
    return '\n\n'.join(tables)


def _build(config: str, role: str) -> nn.Module:
    """Build the model of a config with random weights; nothing is downloaded."""
    model = untrained_config(config, role)
    if 'student' in model:
        raise ConfigError(f'{role}: {config!r} is a distillation config already')
    return build_model(model, role)


def _pairs(
    cfg: Config,
    models: List[nn.Module],
    named: Optional[Pairs],
    teacher: str,
    checkpoint: str,
    method: str,
) -> Tuple[Dict[str, Dict], Dict[str, str], Optional[Size]]:
    """The pairs that a user named, or those that suit the models, and comments on them.

    The comment that stands behind all pairs has the name ``''``. Returned third is the size of the
    teacher's images, if the teacher does not take the student's.
    """
    check_student(models[0])
    if named is None:
        rules.common_task(*models)
    methods.check_method(method, models, named is not None)
    student_input = find_student_input(models[0], cfg.train_dataloader)
    shapes, comment, size = student_input.shapes, '', None
    if named is not None:
        chosen = rules.parse_pairs(named)
    elif method in methods.OF_HEADS:
        chosen = methods.own_choices(method, models[0])
    else:
        difference = _class_difference(cfg, teacher, checkpoint)
        chosen, shapes, comment, size = _choose(models, teacher, student_input, difference)
    if method == 'diffkd':
        pairs, comments = rules.make_pairs(chosen, models, shapes, teacher_size=size)
        return pairs, {**comments, '': comment}, size
    flag = f'--method {method}' if named is None else '--pairs'
    pair_of, kind = partial(methods.pair_of, method), methods.kind_of(models[0])
    pairs, comments = rules.make_pairs(chosen, models, shapes, pair_of, flag, size)
    if named is None and method not in methods.OF_HEADS:
        pairs = methods.kept_pairs(method, pairs, kind, comment)
    return pairs, {**comments, '': methods.comment_on(method, kind)}, size


def _choose(
    models: List[nn.Module], teacher: str, student_input: StudentInput, difference: Optional[str]
):
    """What to pair of the models, the shapes to try, a comment, and the size of :func:`_pairs`."""
    task, shapes = rules.common_task(*models), student_input.shapes
    if task == rules.CLASSIFIER and student_input.shape is not None:
        shapes = [student_input.shape]
    # Behind their necks detectors need real images; nothing there is chosen.
    complete = task in (rules.SEGMENTOR, rules.CLASSIFIER)
    mine = survey(models[0], 'student', shapes, complete, trains=True)
    # Both get the same images, unless the teacher works at one size only, as that of its training.
    own = find_student_input(models[1], load_config(teacher, 'teacher').get('train_dataloader'))
    tried = [mine.shape, own.shape or mine.shape, *((mine.shape[0], side, side) for side in SIDES)]
    others, size = survey(models[1], 'teacher', tried, complete), None
    if others.shape not in (mine.shape, student_input.shape):
        size = others.shape[1:]
        sides = '{}x{}'.format(*size)
        tell(f"The student's images are resized to {sides} for the teacher, which takes no other")
    chosen, comment = rules.choose_pairs(task, mine, others, difference)
    return chosen, shapes, comment, size


def _class_difference(cfg: Config, teacher: str, checkpoint: str) -> Optional[str]:
    """How the classes of student and teacher differ, or None."""
    file = {}
    if Path(checkpoint).is_file():
        file = load_file(checkpoint, opt_out='set teacher.trust_checkpoint=True in a config')
    mine = classes.classes_of_data(cfg.train_dataloader, cfg.get('default_scope'))
    others = classes.classes_of_file(file) or classes.classes_of_config(teacher)
    return classes.class_difference(mine, others)


def teacher_weights(teacher: str, given: Optional[str], smoke: bool) -> str:
    """The value of ``teacher.checkpoint``."""
    given = given or ('zoo' if '::' in teacher else 'random' if smoke else None)
    if given is None:
        raise ConfigError(
            f'--teacher-checkpoint is needed: no library publishes a weight for {teacher!r}'
        )
    return given if given in ('zoo', 'random') or '://' in given else locate(given)


def write_config(path: Path, text: str) -> None:
    """Write a config; a file that stands there and differs is kept beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.read_text() != text:
        names = (path.with_name(f'{path.stem}_old{number}.py') for number in count(1))
        kept = path.rename(next(name for name in names if not name.exists()))
        tell(f'{path} was there and differs; it is now {kept.name}')
    path.write_text(text)


def locate(file: str) -> str:
    """A ``library::name`` as it is, a path made absolute."""
    return file if '::' in file else str(Path(file).expanduser().resolve())


def _pair(name: str, pair: Dict[str, Any], comment: str) -> str:
    lines = (f'    {key}={_source(value)},\n' for key, value in pair.items())
    return f'{comment}{name}=dict(\n{"".join(lines)}),\n'


def _source(value: Any) -> str:
    """A value as Python source."""
    if not isinstance(value, dict) or not all(str(key).isidentifier() for key in value):
        return repr(value)
    return f'dict({", ".join(f"{key}={_source(item)}" for key, item in value.items())})'
