#!/usr/bin/env python
"""Evaluate the student of a distillation config, or its teacher, on the config's test set."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdiffkd.command_line import add_config_arguments, tell_loading
from mmdiffkd.errors import ArgumentParser, add_debug_argument, one_line_errors


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


def main() -> None:
    args = parse_args()
    tell_loading()
    from mmdiffkd.apis import TESTING_KEYS, check_complete, evaluate, load_config

    with one_line_errors(args.debug):
        cfg = load_config(args)
        check_complete(cfg, TESTING_KEYS)
        drawing = dict(show=args.show, wait_time=args.wait_time, test_out_dir=args.show_dir)
        drawn = args.show or args.show_dir
        evaluate(cfg, args.checkpoint, args.teacher, args.out, drawing if drawn else None)


if __name__ == '__main__':
    main()
