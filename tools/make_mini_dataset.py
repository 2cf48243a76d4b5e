"""Write a small synthetic data set in the layout and with the class list of a real one.

Unmodified configs run on it.

Example:
    %(prog)s coco data/coco --num-train 64 --num-val 16

The places where configs of the host libraries look by default:
    coco data/coco
    ade20k data/ade/ADEChallengeData2016
    cityscapes data/cityscapes
    imagenet data/imagenet
    cifar100 data/cifar100
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdiffkd.command_line import tell_loading
from mmdiffkd.errors import ArgumentParser, add_debug_argument, one_line_errors


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('name', help='ade20k, cifar100, cityscapes, coco or imagenet')
    parser.add_argument('root', metavar='directory', help='new or empty directory to fill')
    parser.add_argument(
        '--num-train',
        type=int,
        default=8,
        help='number of training pictures (default: %(default)s)',
    )
    parser.add_argument(
        '--num-val',
        type=int,
        default=4,
        help='number of validation pictures (default: %(default)s)',
    )
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        default=(128, 96),
        metavar=('W', 'H'),
        help='picture size in pixels (default: 128 96; always 32 32 for cifar100)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the pictures (default: %(default)s)'
    )
    add_debug_argument(parser)
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_args())
    tell_loading()
    from mmdiffkd.testing import make_mini_dataset

    with one_line_errors(arguments.pop('debug')):
        print(f'Data set written to {make_mini_dataset(**arguments)}')


if __name__ == '__main__':
    main()
