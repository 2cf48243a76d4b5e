"""From a command line to a runner, for training and testing alike."""

import argparse
import inspect
import io
import logging
import os
import tokenize
from pathlib import Path
from typing import Any, Dict, Sequence

from mmengine.config import Config, DictAction
from mmengine.logging import print_log
from mmengine.registry import OPTIMIZERS, RUNNERS
from mmengine.runner import Runner

from mmdiffkd.checkpoints.guarded_loading import guarded_loading
from mmdiffkd.checkpoints.plain_config import plain_config
from mmdiffkd.engine.runner import DistillRunner
from mmdiffkd.errors import CheckpointError, ConfigError, describe, suggest
from mmdiffkd.models.hosts import has_pretrained_weights, student_config
from mmdiffkd.models.hosts import load_config as read_config

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
TRAINING_KEYS = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
"""What a config must have to be trained from."""
TESTING_KEYS = ('model', 'test_dataloader', 'test_cfg', 'test_evaluator')
"""What a config must have for an evaluation."""

# Keys that mmengine reads beside the arguments of its runner.
_OTHER_KEYS = (
    'cudnn_benchmark',
    'custom_imports',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
    'training_policy',
    'tta_model',
    'tta_pipeline',
    'vis_backends',
)


class KeyValueAction(DictAction):
    """Reads ``KEY=VALUE`` as mmengine's action does, and complains in words about what is none."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Parse all, or end the process with status 2."""
        for value in values:
            if not value.partition('=')[0].strip('.') or '=' not in value:
                parser.error(f'argument {option_string}: {value!r} is not of the form KEY=VALUE')
            try:
                super().__call__(parser, namespace, [value], option_string)
            except AssertionError:
                parser.error(f'argument {option_string}: {value!r} has a bracket without its other')


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
        action=KeyValueAction,
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
    _check_work_dir(cfg)
    return cfg


def _check_work_dir(cfg: Config) -> None:
    """Make the work directory; raise if a run could not write there, or over its own config."""
    work_dir = cfg.work_dir
    if not isinstance(work_dir, str) or not work_dir:
        raise ConfigError(f'work_dir must be the path of a folder, got {work_dir!r}')
    folder = Path(work_dir).absolute()
    config = folder / Path(cfg.filename).name
    if config.exists() and config.samefile(cfg.filename) and not _is_resolved(config):
        # mmengine puts the resolved config there under its own name.
        raise ConfigError(
            f'work_dir: {work_dir!r} holds the config {cfg.filename!r}, which the run would '
            f'overwrite; choose another folder with --work-dir'
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f'work_dir: {work_dir!r} cannot be made: {describe(error)}') from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f'work_dir: {work_dir!r} cannot be written to')


def _is_resolved(config: Path) -> bool:
    """Whether it is what a run has put there: plain values, nothing inherited, no comments."""
    text = config.read_text(encoding='utf-8')
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    if any(token.type == tokenize.COMMENT for token in tokens):
        return False
    try:
        return '_base_' not in plain_config(text)
    except CheckpointError:
        return False


def check_complete(cfg: Config, keys: Sequence[str]) -> None:
    """Raise unless a config has what it takes to train, or to test.

    Args:
        cfg: A config, read.
        keys: :data:`TRAINING_KEYS` or :data:`TESTING_KEYS`.
    """
    missing = [key for key in keys if cfg.get(key) is None]
    if missing:
        raise ConfigError(f'config: {cfg.filename!r} has no {", ".join(missing)}')
    for key in keys:
        value = cfg[key]
        # Several evaluators are a list.
        if not isinstance(value, dict) and not (key.endswith('evaluator') and value):
            raise ConfigError(f'config: {key} must be a dict, got {value!r}')
    if cfg.model.get('type') is None:
        raise ConfigError("config: model has no 'type'")
    if 'train_cfg' in keys:
        interval = cfg.train_cfg.get('val_interval', 1)
        if not isinstance(interval, int) or interval < 1:
            # mmengine would find out when the first epoch is over.
            raise ConfigError(
                f'train_cfg.val_interval must be a positive integer, got {interval!r}'
            )
    if 'optim_wrapper' in keys:
        _check_optimizer(cfg)


def _check_optimizer(cfg: Config) -> None:
    """Raise if there is no such optimizer; mmengine would fail without naming it."""
    kind = (cfg.optim_wrapper.get('optimizer') or {}).get('type')
    if not isinstance(kind, str):
        return
    with OPTIMIZERS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
        if registry.get(kind) is None:
            raise ConfigError(
                f'optim_wrapper: no {kind!r} in the {registry.scope}::{registry.name} registry'
                f'{suggest(kind, OPTIMIZERS.module_dict)}'
            )


def apply_run_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Write the arguments of :func:`add_run_arguments` into the config."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        merge_options(cfg, args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    if args.trust_checkpoint:
        cfg.trust_checkpoint = True


def merge_options(cfg: Config, options: Dict[str, Any]) -> None:
    """Override settings of a config, as ``--cfg-options`` does.

    Args:
        cfg: Changed.
        options: Dotted key to value.

    Raises:
        ConfigError: If the config has no such key and mmengine reads none of this name, or the
            value cannot stand there.
    """
    known = {*cfg.keys(), *inspect.signature(Runner).parameters, *_OTHER_KEYS}
    for key in options:
        name = key.partition('.')[0]
        if name not in known:
            raise ConfigError(
                f'--cfg-options: the config has no key {name!r}{suggest(name, known)}'
            )
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, AttributeError, AssertionError, IndexError) as error:
        raise ConfigError(f'--cfg-options: {describe(error)}') from error


def build_runner(cfg: Config) -> Runner:
    """The runner that a config asks for.

    Whatever it loads while it is built, trains, validates or tests is guarded
    (:mod:`mmdiffkd.checkpoints.guarded_loading`); ``trust_checkpoint=True`` in the config lets
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
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else DistillRunner.from_cfg(cfg)
    for name in ('train', 'val', 'test'):
        setattr(runner, name, guarded_loading(trust)(getattr(runner, name)))
    return runner


def warn_of_a_student_from_scratch(cfg: Config) -> None:
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
