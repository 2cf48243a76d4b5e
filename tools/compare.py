#!/usr/bin/env python
"""Compare methods of distillation, and the student alone, over several seeds.

Each training is a process of its own. The same command goes on where it was interrupted. It ends
with a table and a picture of the metric, and with what the figures allow to say.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdiffkd.command_line import add_compare_arguments, tell_loading
from mmdiffkd.errors import ArgumentParser, add_debug_argument, one_line_errors


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    add_compare_arguments(parser)
    add_debug_argument(parser)
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_args())
    tell_loading()
    from mmdiffkd.apis import compare

    with one_line_errors(arguments.pop('debug')):
        sys.exit(compare(**arguments).failed)


if __name__ == '__main__':
    main()
