"""From a config to a trained student, as ``tools/train.py`` does it."""

import argparse
import logging
import os
import shlex
from pickle import UnpicklingError
from typing import Sequence

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.distributed import DistError

from mmdiffkd.apis.inputs import check_inputs
from mmdiffkd.apis.launch import build_runner, warn_of_a_student_from_scratch
from mmdiffkd.apis.policy import apply_training_policy
from mmdiffkd.apis.processes import process_group
from mmdiffkd.checkpoints.resume import choose_checkpoint
from mmdiffkd.command_line import command_of
from mmdiffkd.engine.hooks import InterruptHook
from mmdiffkd.errors import ConfigError, UserError, describe
from mmdiffkd.messages import SILENT, tell, terminal
from mmdiffkd.models.configs import add_hook, teachers_in
from mmdiffkd.testing import make_smoke_config, verdict


def apply_train_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Write the arguments of :func:`add_train_arguments`, except ``--smoke``, into the config."""
    if args.amp:
        if not torch.cuda.is_available():
            raise ConfigError('--amp needs a GPU: mmengine trains in mixed precision on none else')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if (cfg.get('auto_scale_lr') or {}).get('base_batch_size') is None:
            raise ConfigError('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config')
        cfg.auto_scale_lr.enable = True
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.check_teacher:
        if not teachers_in(cfg.model):
            raise ConfigError(f'--check-teacher: {cfg.filename} is no distillation config')
        if cfg.get('val_cfg') is None:
            raise ConfigError('--check-teacher needs a validation in the config: val_cfg, ...')
        add_hook(cfg, 'mmdiffkd.TeacherCheckHook')
    if args.exact_resume:
        add_hook(cfg, 'mmdiffkd.ExactResumeHook')
    if args.resume is not None:
        cfg.resume = args.resume


def train(cfg: Config, smoke: bool = False, flags: Sequence[str] = ()) -> Runner:
    """Train a student as a config says.

    Ctrl-C and SIGTERM save a checkpoint and end the process with status 130.

    Args:
        cfg: A complete training config with ``work_dir`` and ``launcher``; not to be used again.
            :func:`mmdiffkd.apis.policy.apply_training_policy` says what is added to it.
        smoke: Whether only to try the config; see :func:`mmdiffkd.testing.make_smoke_config`.
        flags: Flags of ``tools/train.py`` that gave the config, which a smoke run's report repeats.

    Returns:
        The runner, after training.
    """
    if smoke and cfg.get('terminal_level') is not None:
        cfg.terminal_level = SILENT
    with process_group(cfg), terminal(cfg.get('terminal_level')):
        go_on = _command(cfg, flags)
        not_tried = check_inputs(cfg, smoke)
        cfg = make_smoke_config(cfg) if smoke else cfg
        warnings = choose_checkpoint(cfg)
        apply_training_policy(cfg)
        runner = build_runner(cfg)
        warn_of_a_student_from_scratch(cfg)
        for warning in warnings:
            tell(warning, logging.WARNING)
        interrupts = [hook for hook in runner.hooks if isinstance(hook, InterruptHook)]
        try:
            runner.train()
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except Exception as error:
            if not any(hook.requested for hook in interrupts):
                told = isinstance(error, (UserError, UnpicklingError, DistError))
                # Data and model first meet in the first step, so a wrong config shows by then.
                if not told and (smoke or runner.iter == 0):
                    what = f'{"smoke run" if smoke else "training"} failed after {runner.iter}'
                    raise ConfigError(f'the {what} training steps: {describe(error)}') from error
                raise
            # After a signal the first process to leave makes the others fail. A signal for a whole
            # process group ends the workers that load the next batch of the first one.
            tell(f'After the signal the run failed: {describe(error)}', logging.ERROR)
            interrupts[0].save(runner, runner.iter)
            raise SystemExit(130) from None
        finally:
            for hook in interrupts:
                hook.after_train(runner)
        if smoke:
            tell(verdict(runner, not_tried, go_on))
    return runner


def _command(cfg: Config, flags: Sequence[str]) -> str:
    """The command that trains with a config."""
    tool, words = command_of('train'), (cfg.filename, '--work-dir', cfg.get('work_dir'), *flags)
    if cfg.launcher == 'pytorch':
        processes = os.environ.get('LOCAL_WORLD_SIZE', '1')
        tool = f'torchrun --nproc_per_node {processes} {tool.removeprefix("python ")}'
    return f'{tool} {shlex.join(map(str, words))}'
