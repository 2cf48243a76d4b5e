"""From the names of a student and a teacher to a trained student."""

import argparse
import os
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Union

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from mmdiffkd.apis.launch import TRAINING_KEYS, add_run_arguments, apply_run_arguments
from mmdiffkd.apis.train import add_train_arguments, apply_train_arguments, train
from mmdiffkd.autopair.config_writer import config_text, located, write_config
from mmdiffkd.autopair.model_view import view_model
from mmdiffkd.autopair.module_table import module_table
from mmdiffkd.autopair.pair_choice import (
    CLASSIFIER,
    DETECTOR,
    PairChoice,
    choose_pairs,
    common_task,
)
from mmdiffkd.autopair.pair_recipes import PairRecipe, make_recipes, parse_pairs
from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.classes import (
    class_difference,
    classes_of_config,
    classes_of_data,
    classes_of_file,
)
from mmdiffkd.models.dry_run import ImageShape
from mmdiffkd.models.hosts import build_model, load_config, untrained_config
from mmdiffkd.models.input_matching import find_student_input

Pairs = Union[str, Sequence[str], Dict[str, Dict]]

# Ranks as torchrun, slurm and mpirun tell them.
_RANK_VARIABLES = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


def add_distill_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`distill`: student, teacher, pairs, and those of training."""
    parser.add_argument('student', help="config of the student: a path or a name as 'mmdet::...'")
    parser.add_argument('--teacher', required=True, help='config of the teacher, likewise')
    parser.add_argument(
        '--teacher-checkpoint',
        metavar='CHECKPOINT',
        help="the teacher's weights: a path, a URL, or 'zoo' for what its library publishes "
        '(the default for a teacher given by name)',
    )
    parser.add_argument(
        '--pairs',
        nargs='+',
        metavar='PATH',
        help="what to pair, as 'neck' or 'backbone[-1]=backbone.layer4' (student=teacher); chosen "
        'by what the models yield if not given',
    )
    add_run_arguments(parser)
    add_train_arguments(parser)


def distill(
    student: str,
    teacher: str,
    teacher_checkpoint: Optional[str] = None,
    pairs: Optional[Pairs] = None,
    work_dir: Optional[str] = None,
    smoke: bool = False,
    **train_arguments: Any,
) -> Runner:
    """Distil a teacher into a student.

    The config that says how is written to ``config/<student>_from_<teacher>.py`` below the work
    directory and then trained; it is where to go on from, with ``tools/train.py`` or :func:`train`.

    Args:
        student: Config of the model to train, with its data and schedule: a path or a
            ``library::name``.
        teacher: Config of the model to learn from.
        teacher_checkpoint: Its weights: a path, a URL, ``'zoo'`` or ``'random'``. Not needed for a
            ``library::name`` (``'zoo'``) nor with ``smoke``.
        pairs: Module paths that both models have, or ``'student=teacher'``, one or several; or the
            ``pairs`` of a config in full. None chooses by what the models yield: the levels that
            the necks of detectors share; of segmentors and classifiers the features before the
            class scores, and the scores.
        work_dir: Where config, logs and checkpoints go; ``work_dirs/<student>_from_<teacher>`` by
            default.
        smoke: Only find out whether it runs, see :func:`mmdiffkd.testing.make_smoke_config`.
        **train_arguments: The flags of ``tools/train.py`` under their names there, as ``resume``
            (True or a path), ``amp``, ``auto_scale_lr``, ``no_validate``, ``cfg_options`` (a
            dict), ``launcher``.

    Returns:
        The runner, after training.

    Raises:
        ConfigError: If a config, a path or a checkpoint cannot be used; the message says what to
            change.
        TypeError: If ``train_arguments`` holds an unknown name.
    """
    args = _run_arguments(train_arguments)
    name = f'{Path(student).stem}_from_{Path(teacher).stem}'
    args.work_dir = str(work_dir or Path('work_dirs', name))
    # Not in the work directory itself: mmengine puts the resolved config there under its name.
    path = Path(args.work_dir, 'config', f'{name}.py')
    text = make_config(path, student, teacher, teacher_checkpoint, pairs, smoke)
    if args.launcher == 'none' or _rank() == 0:
        write_config(path, text)
        print_log(f'Config written to {path}', 'current')
        cfg = Config.fromfile(path)
    else:
        # The first process writes; the file systems of others may not show it yet, or never.
        cfg = Config(Config.fromstring(text, '.py').to_dict(), filename=str(path))
    apply_run_arguments(cfg, args)
    apply_train_arguments(cfg, args)
    return train(cfg, smoke=smoke)


def make_config(
    path: Path,
    student: str,
    teacher: str,
    teacher_checkpoint: Optional[str] = None,
    pairs: Optional[Pairs] = None,
    smoke: bool = False,
) -> str:
    """The text of the config that :func:`distill` trains; the arguments are the same.

    Args:
        path: Where it will be.
        student: See :func:`distill`.
        teacher: See :func:`distill`.
        teacher_checkpoint: See :func:`distill`.
        pairs: See :func:`distill`.
        smoke: See :func:`distill`.
    """
    checkpoint = _checkpoint(teacher, teacher_checkpoint, smoke)
    cfg = _student_config(student)
    if isinstance(pairs, dict):
        recipes = [PairRecipe(name, dict(pair), [], [], None) for name, pair in pairs.items()]
    else:
        models = build_models(student, teacher)
        named = pairs is not None
        difference = None if named else _class_difference(cfg, teacher, checkpoint)
        recipes = _recipes(cfg, models, pairs, difference)
    return config_text(path, student, teacher, checkpoint, recipes, cfg)


def list_modules(student: str, teacher: str) -> str:
    """Tables of what the modules of both models yield for one image.

    Args:
        student: Config of the student, a path or a ``library::name``.
        teacher: Config of the teacher.
    """
    models = build_models(student, teacher)
    tables = []
    for role, model, config in zip(models._fields, models, (student, teacher)):
        shapes = find_student_input(model).shapes
        view = view_model(model, role, shapes, complete=True, trains=False)
        tables.append(module_table(view, f'{role}: {type(model).__name__} of {config}'))
    return '\n\n'.join(tables)


class Models(NamedTuple):
    """Student and teacher, with random weights."""

    student: nn.Module
    teacher: nn.Module


def build_models(student: str, teacher: str) -> Models:
    """Build both models from their configs; nothing is downloaded."""
    models = {}
    for role, config in (('student', student), ('teacher', teacher)):
        model = untrained_config(config, role)
        if 'student' in model:
            raise ConfigError(
                f'{role}: {config!r} is a distillation config already; give the config of the '
                f'plain model, or train it with tools/train.py'
            )
        models[role] = build_model(model, role)
    return Models(**models)


def _class_difference(cfg: Config, teacher: str, checkpoint: str) -> Optional[str]:
    """What is different about the classes of student and teacher, if something is."""
    file = {}
    if Path(checkpoint).is_file():
        file = load_file(checkpoint, opt_out='set teacher.trust_checkpoint=True in a config')
    mine = classes_of_data(cfg.train_dataloader, cfg.get('default_scope'))
    return class_difference(mine, classes_of_file(file) or classes_of_config(teacher))


def _recipes(
    cfg: Config, models: Models, pairs: Optional[Pairs], difference: Optional[str]
) -> List[PairRecipe]:
    """The pairs that a user named, or those that suit the models."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        student_input = find_student_input(models.student, cfg.train_dataloader)
    shapes = student_input.shapes
    if pairs is not None:
        choices = parse_pairs(pairs)
    else:
        task = common_task(*models)
        if task == CLASSIFIER and student_input.shape is not None:
            shapes = [student_input.shape]
        choices = _choose(task, models, shapes, difference)
    return make_recipes(choices, *models, shapes)


def _choose(
    task: str, models: Models, shapes: Iterable[ImageShape], difference: Optional[str]
) -> List[PairChoice]:
    # Behind their necks detectors need real images; nothing there is chosen.
    complete = task != DETECTOR
    student = view_model(models.student, 'student', shapes, complete, trains=True)
    if task == CLASSIFIER:
        # Both get the same images, and some work at the size that they were made for only.
        shapes = [student.shape]
    try:
        teacher = view_model(models.teacher, 'teacher', shapes, complete, trains=False)
    except ConfigError as error:
        if task == DETECTOR:
            raise
        raise ConfigError(
            f'{error}; the student is trained on images of {student.shape[1]}x{student.shape[2]}, '
            f'so choose a teacher that takes them, or a config of the student with images that the '
            f'teacher takes'
        ) from error
    return choose_pairs(task, student, teacher, difference)


def _student_config(student: str) -> Config:
    cfg = load_config(student, 'student')
    missing = [key for key in TRAINING_KEYS if cfg.get(key) is None]
    if missing:
        raise ConfigError(
            f'student: {student!r} has no {", ".join(missing)}, so it cannot be trained; choose a '
            f'config that its library trains'
        )
    if 'read_base' in Path(cfg.filename).read_text():
        raise ConfigError(
            f'student: {student!r} is a config of the new style (with read_base()), which the '
            f'config made here cannot inherit; choose its counterpart with _base_'
        )
    return cfg


def _checkpoint(teacher: str, checkpoint: Optional[str], smoke: bool) -> str:
    """What ``teacher.checkpoint`` shall be."""
    if checkpoint is None:
        if '::' in teacher:
            return 'zoo'
        if smoke:
            return 'random'
        raise ConfigError(
            f'--teacher-checkpoint is needed: {teacher!r} is a path, for which no library '
            f'publishes a weight; give a path or a URL'
        )
    is_file = checkpoint not in ('zoo', 'random') and '://' not in checkpoint
    return located(checkpoint) if is_file else checkpoint


def _run_arguments(given: Dict[str, Any]) -> argparse.Namespace:
    """The flags of training with the values given, others as the command line has them."""
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    add_train_arguments(parser)
    args = parser.parse_args([])
    unknown = [name for name in given if name not in args]
    if unknown:
        raise TypeError(
            f'distill() has no argument {unknown[0]!r} (accepted: {", ".join(vars(args))})'
        )
    vars(args).update(given)
    args.resume = {True: 'auto', False: None}.get(args.resume, args.resume)
    return args


def _rank() -> int:
    """Number of this process among those of a launcher."""
    return int(next(filter(None, map(os.environ.get, _RANK_VARIABLES)), 0))
