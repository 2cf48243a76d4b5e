"""From a command line to a runner, for training and testing alike."""

import argparse
import os
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmdiffkd.distillers.build import load_config as read_config

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


def build_runner(cfg: Config) -> Runner:
    """The runner that a config asks for."""
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        # Of a base named 'library::config' each type has a scope. mmengine takes it out of all that
        # it builds, except this: here it would be handed to the function as an argument.
        ((cfg.get(key) or {}).get('collate_fn') or {}).pop('_scope_', None)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
