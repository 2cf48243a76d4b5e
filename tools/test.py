#!/usr/bin/env python
"""Evaluate the student of a distillation config, or its teacher, on the config's test set."""

import argparse
import sys
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

from mmdiffkd.apis import (
    TESTING_KEYS,
    add_config_arguments,
    build_runner,
    check_complete,
    load_config,
    process_group,
)
from mmdiffkd.checkpoints.download import fetch
from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.checkpoints.weights import load_strictly, weights_of
from mmdiffkd.engine.hooks.model import model_of
from mmdiffkd.errors import ArgumentParser, add_debug_argument, one_line_errors
from mmdiffkd.models.configs import student_config, type_name


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help="checkpoint of the distiller or the student (default with --teacher: the config's)",
    )
    parser.add_argument('--teacher', action='store_true', help='evaluate the teacher instead')
    parser.add_argument('--out', help='file for the predictions (.pkl), for offline evaluation')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='folder in the work directory for pictures')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds a window stays')
    add_debug_argument(parser)
    args = parser.parse_args()
    if args.checkpoint is None and not args.teacher:
        parser.error('a checkpoint is required unless --teacher is given')
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out must end in .pkl or .pickle, got {args.out}')
    return args


def build_student_runner(cfg: Config, checkpoint: str) -> Runner:
    """A runner of the plain student, with the student's weights of ``checkpoint``."""
    cfg.model = student_config(cfg.model)
    runner = build_runner(cfg)
    trust = cfg.get('trust_checkpoint', False)
    weights = weights_of(load_file(fetch(checkpoint), trust, 'give --trust-checkpoint'))
    load_strictly(model_of(runner), weights, f'checkpoint {checkpoint!r}')
    return runner


def build_teacher_runner(cfg: Config, checkpoint: Optional[str]) -> Runner:
    """A runner that tests the teacher, with ``checkpoint`` or what the config names.

    The teacher runs as in training: on the student's pictures, converted to its own.
    """
    if 'teacher' not in cfg.model:
        raise SystemExit(f'--teacher: {cfg.filename} is no distillation config')
    cfg.model.teacher.checkpoint = checkpoint or cfg.model.teacher.get('checkpoint')
    if cfg.get('trust_checkpoint', False):
        cfg.model.teacher.trust_checkpoint = True
    runner = build_runner(cfg)
    distiller = model_of(runner)
    distiller.test_step = distiller.predict_with_teacher
    return runner


def evaluate(args: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    cfg = load_config(args)
    check_complete(cfg, TESTING_KEYS)
    # Where a training would start from; the runner would load it over what is to be tested.
    cfg.load_from, cfg.resume = None, False
    # The checkpoint's weights are the averaged ones already.
    cfg.custom_hooks = [
        hook for hook in cfg.get('custom_hooks') or () if not type_name(hook).endswith('EMAHook')
    ]
    if args.show or args.show_dir:
        if (cfg.get('default_hooks') or {}).get('visualization') is None:
            raise SystemExit('--show needs default_hooks.visualization in the config')
        cfg.default_hooks.visualization.update(
            draw=True, show=args.show, wait_time=args.wait_time, test_out_dir=args.show_dir
        )
    build = build_teacher_runner if args.teacher else build_student_runner
    with process_group(cfg):
        runner = build(cfg, args.checkpoint)
        if args.out is not None:
            runner.test_evaluator.metrics.append(DumpResults(args.out))
        runner.test()


def main() -> None:
    args = parse_args()
    with one_line_errors(args.debug):
        evaluate(args)


if __name__ == '__main__':
    main()
