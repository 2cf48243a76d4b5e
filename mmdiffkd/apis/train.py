"""From a config to a trained student, as ``tools/train.py`` does it."""

import argparse

import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmdiffkd.apis.launch import build_runner, warn_of_a_student_from_scratch
from mmdiffkd.apis.processes import communication_failed, process_group
from mmdiffkd.checkpoints.resume import choose_checkpoint
from mmdiffkd.engine.hooks import (
    ConsistencyHook,
    ExactResumeHook,
    InterruptHook,
    NonFiniteLossHook,
    TrimMemoryHook,
)
from mmdiffkd.testing import make_smoke_config


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of training to those of every config, named as in the host libraries."""
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or without a path from the latest of the work directory',
    )
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with GPUs x batch, relative to auto_scale_lr.base_batch_size',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not validate while training')
    parser.add_argument(
        '--check-teacher',
        action='store_true',
        help='validate the teacher once before training, logged as teacher/<metric>',
    )
    parser.add_argument(
        '--smoke',
        action='store_true',
        help='does this config run? two iterations, a validation and a checkpoint on miniature '
        'data with random weights; nothing is downloaded',
    )


def apply_train_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Write the arguments of :func:`add_train_arguments`, except ``--smoke``, into the config."""
    if args.amp:
        if not torch.cuda.is_available():
            raise SystemExit('--amp needs a GPU: mmengine trains in mixed precision on none else')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if cfg.get('auto_scale_lr', {}).get('base_batch_size') is None:
            raise SystemExit('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config')
        cfg.auto_scale_lr.enable = True
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.check_teacher:
        _check_teacher(cfg)
    if args.resume is not None:
        cfg.resume = args.resume


def _check_teacher(cfg: Config) -> None:
    if 'teacher' not in cfg.model:
        raise SystemExit(f'--check-teacher: {cfg.filename} is no distillation config')
    if cfg.get('val_cfg') is None:
        raise SystemExit(
            '--check-teacher needs a validation: val_cfg, val_dataloader and val_evaluator in the '
            'config, and no --no-validate'
        )
    cfg.custom_hooks = [
        *(cfg.get('custom_hooks') or ()),
        dict(type='mmdiffkd.TeacherCheckHook'),
    ]


def train(cfg: Config, smoke: bool = False) -> Runner:
    """Train a student as a config says.

    Ctrl-C and SIGTERM save a checkpoint and end the process with status 130.

    Args:
        cfg: A complete training config with ``work_dir`` and ``launcher``; not to be used again.
        smoke: Only find out whether it runs, see :func:`mmdiffkd.testing.make_smoke_config`.

    Returns:
        The runner, after training.

    Raises:
        LostProcessError: If another process of the run ended or did not answer in time. The main
            process saves a checkpoint before, as after a signal.
    """
    with process_group(cfg):
        cfg = make_smoke_config(cfg) if smoke else cfg
        warnings = choose_checkpoint(cfg)
        _write_safely(cfg)
        runner = build_runner(cfg)
        warn_of_a_student_from_scratch(cfg)
        for warning in warnings:
            runner.logger.warning(warning)
        interrupt = InterruptHook()
        own = (ExactResumeHook(), ConsistencyHook(), interrupt.averages, interrupt)
        for hook in own:
            runner.register_hook(hook)
        if not any(isinstance(hook, NonFiniteLossHook) for hook in runner.hooks):
            runner.register_hook(NonFiniteLossHook())
        if not torch.cuda.is_available():
            runner.register_hook(TrimMemoryHook())
        try:
            runner.train()
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except RuntimeError as error:
            lost_process = communication_failed(error)
            if interrupt.interrupted or lost_process:
                interrupt.save_unfinished(runner)
            if interrupt.interrupted and not lost_process:
                raise SystemExit(130) from None
            raise
    return runner


def _write_safely(cfg: Config) -> None:
    """Have checkpoints written by :class:`SafeCheckpointHook` where mmengine's hook would do it."""
    hooks = cfg.get('default_hooks') or {}
    hook = hooks.get('checkpoint', dict(type='CheckpointHook'))
    if hook is not None and hook['type'] in ('CheckpointHook', CheckpointHook):
        cfg.default_hooks = dict(hooks, checkpoint=dict(hook, type='mmdiffkd.SafeCheckpointHook'))
