"""From the names of a student and a teacher to a trained student."""

import argparse
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config
from mmengine.runner import Runner

from mmdiffkd.apis import launch
from mmdiffkd.apis.inputs import loaders_to_check
from mmdiffkd.apis.train import apply_train_arguments, train
from mmdiffkd.autopair.make_config import Pairs, make_config, write_config
from mmdiffkd.command_line import (
    add_run_arguments,
    add_train_arguments,
    command_of,
    flags_of,
    launched_as_first,
)
from mmdiffkd.datasets.config_checks import check_config
from mmdiffkd.errors import ConfigError
from mmdiffkd.messages import SHORT, SILENT, tell, terminal
from mmdiffkd.models.configs import load_config


def distill(
    student: str,
    teacher: str,
    teacher_checkpoint: Optional[str] = None,
    pairs: Optional[Pairs] = None,
    work_dir: Optional[str] = None,
    smoke: bool = False,
    method: str = 'diffkd',
    **train_arguments: Any,
) -> Runner:
    """Distil a teacher into a student, with a config that is made for the two.

    The config is written to ``config/<student>_from_<teacher>.py`` below the work directory. For a
    method other than DiffKD its name ends with ``_<method>``, as does that of the work directory.

    Args:
        student: Config of the student with its data and schedule, a path or a ``library::name``.
        teacher: Config of the teacher, likewise.
        teacher_checkpoint: Weights of the teacher: a path, a URL, ``'zoo'`` (default for a
            ``library::name``) or ``'random'`` (default for a path with ``smoke``).
        pairs: Module paths as of ``--pairs``, or the ``pairs`` of a config; chosen by default.
        work_dir: Output folder, ``work_dirs/<student>_from_<teacher>`` by default.
        smoke: Whether only to find out if it runs, see :func:`mmdiffkd.testing.make_smoke_config`.
        method: Method as of ``--method``, which has heads, losses and weights of its own.
        **train_arguments: Flags of ``tools/train.py``, such as ``resume`` (True or a path),
            ``amp``, ``cfg_options`` (a dict) or ``launcher``.

    Returns:
        The runner, after training.
    """
    name = f'{Path(student).stem}_from_{Path(teacher).stem}'
    name += '' if method == 'diffkd' else f'_{method}'
    folder = str(work_dir or Path('work_dirs', name))
    args = train_namespace('distill', work_dir=folder, **train_arguments)
    cfg = load_config(student, 'student')
    launch.check_complete(cfg, launch.TRAINING_KEYS)
    launch.import_host(cfg)
    launch.make_work_dir(Path(folder))
    # Not in the work directory itself: mmengine puts the resolved config there under its name.
    path = Path(folder, 'config', f'{name}.py')
    with terminal(None if args.verbose else SILENT if smoke else SHORT):
        # Mistakes in the data are said before the models are built, to find their pairs.
        text = make_config(path, student, teacher, teacher_checkpoint, {}, smoke)
        cfg = _run_config(text, path, args)
        check_config(cfg, loaders_to_check(cfg), smoke)
        text = make_config(path, student, teacher, teacher_checkpoint, pairs, smoke, method)
        cfg = _run_config(text, path, args)
    if args.launcher == 'none' or launched_as_first():
        if args.resume and path.is_file() and path.read_text() != text:
            raise ConfigError(
                f'--resume: {path} was edited, or made with other arguments; go on with it by '
                f'`{command_of("train")} {path} --work-dir {folder} --resume`'
            )
        write_config(path, text)
        tell(f'Config written to {path}')
    return train(cfg, smoke, flags_of(args))


def _run_config(text: str, path: Path, args: argparse.Namespace) -> Config:
    """The config of a run from its text, with the flags of the command line."""
    # Read from the text, as the other processes may not see the file yet, or never.
    cfg = Config(Config.fromstring(text, '.py').to_dict(), cfg_text=text, filename=str(path))
    launch.apply_run_arguments(cfg, args)
    apply_train_arguments(cfg, args)
    return cfg


def train_namespace(caller: str, **train_arguments: Any) -> argparse.Namespace:
    """The flags of ``tools/train.py`` as its parser returns them, by default as if none is given.

    ``caller`` is the function that an error names as the one that got a wrong argument.
    """
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    add_train_arguments(parser)
    known = vars(parser.parse_args([]))
    for name in train_arguments.keys() - known.keys():
        raise TypeError(f'{caller}() has no argument {name!r} (accepted: {", ".join(known)})')
    args = argparse.Namespace(**{**known, **train_arguments})
    args.resume = {True: 'auto', False: None}.get(args.resume, args.resume)
    return args
