#!/usr/bin/env python
"""Train a student with the help of a teacher, from the configs of the two models.

The modules to pair are found automatically unless --pairs names them. The resulting config is
written into the work directory, with comments, to be changed and trained further.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdiffkd.command_line import add_distill_arguments, tell_loading
from mmdiffkd.errors import ArgumentParser, add_debug_argument, one_line_errors


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    add_distill_arguments(parser)
    parser.add_argument(
        '--list-modules',
        action='store_true',
        help='only print the paths of all modules of both models and their shapes',
    )
    add_debug_argument(parser)
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_args())
    tell_loading()
    from mmdiffkd.apis import distill, list_modules

    with one_line_errors(arguments.pop('debug')):
        if arguments.pop('list_modules'):
            print(list_modules(arguments['student'], arguments['teacher']))
        else:
            distill(**arguments)


if __name__ == '__main__':
    main()
