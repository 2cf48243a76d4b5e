#!/usr/bin/env python
"""Distil a teacher into a student: two configs in, a trained student out.

What is paired follows from the models unless --pairs says it. The config that comes of it is
written into the work directory, commented, to go on from with tools/train.py.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdiffkd.apis import (
    add_distill_arguments,
    distill,
    list_modules,
)
from mmdiffkd.errors import ArgumentParser, add_debug_argument, one_line_errors


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    add_distill_arguments(parser)
    parser.add_argument(
        '--list-modules',
        action='store_true',
        help='only print what the modules of both models yield, to choose pairs from',
    )
    add_debug_argument(parser)
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_args())
    with one_line_errors(arguments.pop('debug')):
        if arguments.pop('list_modules'):
            print(list_modules(arguments['student'], arguments['teacher']))
        else:
            distill(**arguments)


if __name__ == '__main__':
    main()
