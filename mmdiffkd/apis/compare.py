"""Methods of distillation side by side: the same student, teacher, schedule and seeds."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any, Optional, Sequence

import torch
from mmengine.config import Config

from mmdiffkd.apis import launch
from mmdiffkd.apis.distill import train_namespace
from mmdiffkd.apis.train import apply_train_arguments
from mmdiffkd.autopair.make_config import teacher_weights
from mmdiffkd.comparison.configs import Configs
from mmdiffkd.comparison.report import ALONE, Comparison
from mmdiffkd.comparison.session import Session
from mmdiffkd.errors import ConfigError
from mmdiffkd.messages import SHORT, terminal
from mmdiffkd.models.configs import load_config

# Flags of train.py that no config can have.
_FLAGS = ('smoke', 'trust_checkpoint', 'verbose')
_VALIDATION = ('val_dataloader', 'val_evaluator', 'val_cfg')


def compare(
    student: str,
    teacher: str,
    teacher_checkpoint: Optional[str] = None,
    methods: Sequence[str] = (ALONE, 'diffkd'),
    methods_file: Optional[str] = None,
    seeds: int = 3,
    weights: Sequence[float] = (),
    tuning_seeds: int = 1,
    metric: Optional[str] = None,
    gpus: Optional[int] = None,
    work_dir: Optional[str] = None,
    **train_arguments: Any,
) -> Comparison:
    """Train a student by several methods with several seeds, and compare what it reaches.

    Each training is a process of its own in ``<method>/seed-<n>`` below the work directory. What is
    finished is reused, what was interrupted goes on, and a run with another config there is a
    :class:`ConfigError`. The report is ``comparison.txt``, ``.md``, ``.json`` and ``.png``.

    Args:
        student: Config of the student with its data and schedule, a path or a ``library::name``.
        teacher: Config of the teacher, likewise.
        teacher_checkpoint: Weights of the teacher, as of :func:`mmdiffkd.apis.distill`.
        methods: Names of methods: ``'alone'`` for the student without a teacher, those of
            :func:`mmdiffkd.apis.distill`, and those of ``methods_file``.
        methods_file: Config with ``methods = dict(name=pairs, ...)``; the pairs are those of a
            distillation config.
        seeds: Number of trainings per method. Their seeds are 0, 1, ...
        weights: Factors of the weights of a method's pairs. Each is tried with a fifth of the
            training data as validation data, and the best one is taken. A single one is not tried.
        tuning_seeds: Number of trainings per method and factor. Their seeds are 1000, 1001, ...
        metric: Metric of the validation, by default that of ``save_best`` or the task's usual one.
        gpus: Number of processes with ``launcher='pytorch'``, by default that of the GPUs.
        work_dir: Output folder, by default ``work_dirs/compare_<student>_from_<teacher>``.
        **train_arguments: Flags of ``tools/train.py``, such as ``smoke``, ``amp``, ``cfg_options``.

    Returns:
        All figures. A method that failed has an ``error`` in its row.
    """
    args = train_namespace('compare', **train_arguments)
    name = f'compare_{Path(student).stem}_from_{Path(teacher).stem}'
    folder = Path(work_dir or Path('work_dirs', name), 'smoke' if args.smoke else '')
    if seeds < 1 or tuning_seeds < 1 or any(factor <= 0 for factor in weights):
        raise ConfigError('--seeds, --tuning-seeds and --weights must be above 0')
    if args.no_validate and not args.smoke:
        raise ConfigError('--no-validate: a comparison needs the metrics of the validation')
    args.check_teacher = False  # it is tested once for all trainings
    with terminal(None if args.verbose else SHORT):
        base = load_config(student, 'student')
        launch.import_host(base)
        launch.check_complete(base, (*launch.TRAINING_KEYS, *(() if args.smoke else _VALIDATION)))
        checkpoint = teacher_weights(teacher, teacher_checkpoint, args.smoke)
        flags = [f'--{it.replace("_", "-")}' for it in _FLAGS if getattr(args, it)]
        processes, apply = _processes(args.launcher, gpus), partial(_apply_flags, args)
        configs = Configs(
            student, teacher, checkpoint, methods_file, folder, apply, flags, processes
        )
        configs.check_names(methods)
        return Session(configs, methods, metric).run(seeds, weights, tuning_seeds)


def _apply_flags(args: argparse.Namespace, cfg: Config, alone: bool) -> None:
    if alone:
        # Options are those of a distillation config, where the student is a part of the model.
        options = {
            key.replace('model.student.', 'model.', 1): value
            for key, value in (args.cfg_options or {}).items()
            if not key.startswith(('model.teacher.', 'model.pairs.'))
        }
        args = argparse.Namespace(**{**vars(args), 'cfg_options': options})
    launch.apply_run_arguments(cfg, args)
    apply_train_arguments(cfg, args)


def _processes(launcher: str, gpus: Optional[int]) -> int:
    """The number of processes of a training; 0 for one without a process group."""
    if launcher == 'none' and gpus is None:
        return 0
    number = torch.cuda.device_count() if gpus is None else gpus
    if launcher != 'pytorch' or number < 1:
        raise ConfigError(
            f'--launcher {launcher}: several processes need --launcher pytorch, and --gpus N from '
            f'1 on where there is no GPU'
        )
    return number
