#!/usr/bin/env python
"""Extract the student from a checkpoint of a distillation.

The result has the student's weights and the meta information that inferencers of the host libraries
read (class names), without heads, optimizer and log. It loads strictly into the student's model.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdiffkd.command_line import tell_loading
from mmdiffkd.errors import ArgumentParser, add_debug_argument, one_line_errors


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='checkpoint of the distillation')
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument(
        '--trust-checkpoint', action='store_true', help='unpickle whatever the checkpoint contains'
    )
    parser.add_argument(
        '--force', action='store_true', help='overwrite the output file if there is one'
    )
    add_debug_argument(parser)
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_args())
    tell_loading()
    from mmdiffkd.apis import export_student

    with one_line_errors(arguments.pop('debug')):
        print(export_student(**arguments))


if __name__ == '__main__':
    main()
