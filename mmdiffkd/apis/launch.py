"""From a command line to a runner, for training and testing alike."""

import argparse
import inspect
import io
import logging
import os
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, Sequence

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmdiffkd.engine.runner import DistillRunner, told_as_config_error
from mmdiffkd.errors import ConfigError, describe, suggest
from mmdiffkd.messages import SHORT, shorten, tell
from mmdiffkd.models.configs import add_hook, has_pretrained_weights, student_config, teachers_in
from mmdiffkd.models.configs import load_config as read_config

# What a config must have to be trained from, and to be tested.
TRAINING_KEYS = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
TESTING_KEYS = ('model', 'test_dataloader', 'test_cfg', 'test_evaluator')

# Keys that mmengine and the hosts read beside the arguments of mmengine's runner.
_OTHER_KEYS = (
    'activation_checkpointing', 'check_data', 'compile', 'cudnn_benchmark', 'custom_imports',
    'efficient_conv_bn_eval', 'find_unused_parameters', 'model_wrapper_cfg', 'runner_type',
    'sync_bn', 'training_policy', 'trust_checkpoint', 'tta_model',
    'tta_pipeline', 'vis_backends',
)  # fmt: skip


def load_config(args: argparse.Namespace) -> Config:
    """The config of a command line, whose work directory is ``work_dirs/<name>`` by default."""
    cfg = read_config(args.config, 'config')
    import_host(cfg)
    apply_run_arguments(cfg, args)
    if cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    _check_work_dir(cfg)
    return cfg


def _check_work_dir(cfg: Config) -> None:
    """Make the work directory; raise if a run could not write there, or over its own config."""
    folder = Path(cfg.work_dir)
    # mmengine writes the resolved config into the work directory, under the config's name.
    config = folder / Path(cfg.filename).name
    is_own = config.exists() and config.samefile(cfg.filename)
    if is_own and config.read_text() != Config.fromfile(config).pretty_text:
        what = f'{cfg.work_dir!r} holds the config {cfg.filename!r}, which the run would overwrite'
        raise ConfigError(f'work_dir: {what}; choose another folder with --work-dir')
    make_work_dir(folder)


def make_work_dir(folder: Path) -> None:
    """Make a work directory unless it exists; raise :class:`ConfigError` if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f'work_dir: {str(folder)!r} cannot be made: {error}') from error


def check_complete(cfg: Config, keys: Sequence[str]) -> None:
    """Raise unless a config has all of ``keys``, such as ``TRAINING_KEYS``."""
    missing = [key for key in keys if cfg.get(key) is None]
    if missing:
        what = f'{cfg.filename!r} has no {", ".join(missing)}'
        raise ConfigError(f'config: {what}; choose a config that has')


def apply_run_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Write the arguments of :func:`add_config_arguments` into the config."""
    local_rank = os.environ.get('OMPI_COMM_WORLD_LOCAL_RANK', str(args.local_rank))
    os.environ.setdefault('LOCAL_RANK', local_rank)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        merge_options(cfg, args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    if args.trust_checkpoint:
        cfg.trust_checkpoint = True
    cfg.terminal_level = None if args.verbose else cfg.get('terminal_level', SHORT)


def merge_options(cfg: Config, options: Dict[str, Any]) -> None:
    """Override settings of a config in place, as ``--cfg-options`` does.

    Raises:
        ConfigError: If neither the config nor mmengine knows a key, or a value cannot stand there.
    """
    known = {*cfg.keys(), *inspect.signature(Runner).parameters, *_OTHER_KEYS}
    for name in {key.partition('.')[0] for key in options} - known:
        raise ConfigError(f'--cfg-options: the config has no key {name!r}{suggest(name, known)}')
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, AttributeError, AssertionError, IndexError) as error:
        raise ConfigError(f'--cfg-options: {describe(error)}') from error


def build_runner(cfg: Config) -> Runner:
    """The runner of a config: that of its ``runner_type``, else a :class:`DistillRunner`."""
    if cfg.get('terminal_level') is not None:
        add_hook(cfg, 'mmdiffkd.ShortLogHook')
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        # A base named 'library::config' gives each type a scope. mmengine takes it out wherever it
        # builds something, except here, where the function would get it as an argument.
        collate = (cfg.get(key) or {}).get('collate_fn')
        if isinstance(collate, dict):
            collate.pop('_scope_', None)
    with told_as_config_error('the runner'):
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else DistillRunner.from_cfg(cfg)
    if 'runner_type' not in cfg:
        return runner
    if cfg.get('terminal_level') is not None:
        shorten(runner.logger, cfg.terminal_level)
    return runner


def import_host(cfg: Config) -> None:
    """Import the library of a config, without what it prints on optional data sets it lacks."""
    with redirect_stdout(io.StringIO()), suppress(ImportError):
        import_module(f'{cfg.get("default_scope")}.datasets')


def warn_of_a_student_from_scratch(cfg: Config) -> None:
    """Warn if the student starts from random weights, as when a path was forgotten."""
    model = cfg.get('model') or {}
    # A random teacher, as of a smoke run, has a warning of its own.
    teachers = teachers_in(model).values()
    if not teachers or any(it.get('checkpoint') == 'random' for it in teachers):
        return
    student = student_config(model)
    sources = cfg.get('load_from'), cfg.get('resume'), model.get('init_from_teacher')
    if not any(sources) and not has_pretrained_weights(student):
        text = (
            'The student starts from random weights: its config has no init_cfg of type '
            'Pretrained, and no load_from or init_from_teacher is given'
        )
        # Most classifiers, and backbones without a head, are trained from scratch.
        usual = 'Classifier' in str(student['type']) or not any('head' in key for key in student)
        tell(text, logging.INFO if usual else logging.WARNING)
