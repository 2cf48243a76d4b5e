#!/usr/bin/env python
"""Draw how well a trained noise predictor denoises the features of the teacher.

The teacher's features of one training batch get noise of growing strength and are denoised with
DDIM, as those of the student are in training. The figure shows the errors before and after
denoising over the noise level for every level of a pair, and pictures of the first level.

Example:
    %(prog)s CONFIG work_dirs/my_run/epoch_12.pth --out sweep.png
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdiffkd.command_line import KeyValueAction, tell_loading
from mmdiffkd.errors import ArgumentParser, add_debug_argument, one_line_errors


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of the distillation')
    parser.add_argument('checkpoint', help='checkpoint of the distillation')
    parser.add_argument(
        '--out', type=Path, default=Path('noise_sweep.png'), help='image (default: %(default)s)'
    )
    parser.add_argument('--pair', help='name of the pair (default: the first that denoises)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the batch and of the noise')
    parser.add_argument(
        '--trust-checkpoint', action='store_true', help='unpickle whatever the checkpoint contains'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValueAction,
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    add_debug_argument(parser)
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_args())
    tell_loading()
    from _noise_sweep import draw_noise_sweep

    with one_line_errors(arguments.pop('debug')):
        print(draw_noise_sweep(**arguments))


if __name__ == '__main__':
    main()
