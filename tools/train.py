#!/usr/bin/env python
"""Train a student as a config says. The flags are those of mmdet, mmseg and mmpretrain."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from mmdiffkd.apis import add_config_arguments, build_runner, join_cpu_processes, load_config
from mmdiffkd.hooks import InterruptHook, TrimMemoryHook
from mmdiffkd.testing import make_smoke_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
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
        '--smoke',
        action='store_true',
        help='does this config run? two iterations, a validation and a checkpoint on miniature '
        'data with random weights; nothing is downloaded',
    )
    return parser.parse_args()


def apply_flags(cfg, args: argparse.Namespace) -> None:
    """Write the training flags into the config."""
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
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    apply_flags(cfg, args)
    join_cpu_processes(cfg)
    if args.smoke:
        cfg = make_smoke_config(cfg)
    runner = build_runner(cfg)
    interrupt = InterruptHook()
    runner.register_hook(interrupt)
    if not torch.cuda.is_available():
        runner.register_hook(TrimMemoryHook())
    try:
        runner.train()
    except KeyboardInterrupt:
        sys.exit(130)
    except RuntimeError:
        if not interrupt.interrupted:
            raise
        interrupt.save_unfinished(runner)
        sys.exit(130)


if __name__ == '__main__':
    main()
