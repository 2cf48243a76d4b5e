"""From a command line to a runner, for training and testing alike."""

import argparse
import logging
import os
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmdiffkd.distillers.build import ConfigError, has_pretrained_weights, student_config
from mmdiffkd.distillers.build import load_config as read_config
from mmdiffkd.guarded_loading import guarded_loading

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all tools running a config have, named as in the host libraries."""
    parser.add_argument('config', help="path of the config, or a name as 'mmdet::...'")
    add_run_arguments(parser)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of them that do not name the config."""
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. model.teacher.checkpoint=random; lists as '
        'key="[a,b]" without white space',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle whatever the checkpoints contain that the run reads (load_from, --resume, '
        "init_cfg); for the teacher's there is teacher.trust_checkpoint",
    )
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='job launcher')
    # Some launchers pass it; torchrun sets the environment variable instead.
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """The config named on the command line, with its overrides and its work directory.

    The work directory is that of the command line, else of the config, else
    ``work_dirs/<config name>``.
    """
    cfg = read_config(args.config, 'config')
    apply_run_arguments(cfg, args)
    if cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    return cfg


def apply_run_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Write the arguments of :func:`add_run_arguments` into the config."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    if args.trust_checkpoint:
        cfg.trust_checkpoint = True


def build_runner(cfg: Config) -> Runner:
    """The runner that a config asks for.

    Whatever it loads while it is built, trains, validates or tests is guarded
    (:func:`mmdiffkd.guarded_loading.guarded_loading`); ``trust_checkpoint=True`` in the config lets
    checkpoints run code.
    """
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        # Of a base named 'library::config' each type has a scope. mmengine takes it out of all that
        # it builds, except this: here it would be handed to the function as an argument.
        ((cfg.get(key) or {}).get('collate_fn') or {}).pop('_scope_', None)
    trust = cfg.get('trust_checkpoint', False)
    if not isinstance(trust, bool):
        raise ConfigError(f'trust_checkpoint must be True or False, got {trust!r}')
    with guarded_loading(trust):
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    _warn_of_a_student_from_scratch(cfg)
    for name in ('train', 'val', 'test'):
        setattr(runner, name, guarded_loading(trust)(getattr(runner, name)))
    return runner


def _warn_of_a_student_from_scratch(cfg: Config) -> None:
    """Say that a student starts from random weights, as when a config lost those it had."""
    model = cfg.get('model') or {}
    if 'student' not in model:
        return
    student = student_config(model)
    starts_from_weights = (
        cfg.get('load_from')
        or cfg.get('resume')
        or model.get('init_from_teacher')
        or has_pretrained_weights(student)
    )
    # With a random teacher it is a smoke run, which has a warning of its own.
    if not starts_from_weights and model.teacher.get('checkpoint') != 'random':
        print_log(
            'The student starts from random weights: its config has no init_cfg of type '
            'Pretrained, and no load_from or init_from_teacher is given',
            'current',
            # As all classifiers do that are trained on their own data.
            logging.INFO if 'Classifier' in str(student['type']) else logging.WARNING,
        )
