"""Write a small synthetic data set in the layout and with the class list of a real one.

Example:
    python tools/make_mini_dataset.py coco data/coco --num-train 64 --num-val 16

The places where configs of the host libraries look by default:
    coco data/coco
    ade20k data/ade/ADEChallengeData2016
    cityscapes data/cityscapes
    imagenet data/imagenet
    cifar100 data/cifar100
"""

import argparse
import inspect
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdiffkd.errors import ArgumentParser, ConfigError, add_debug_argument, one_line_errors

# A library that is missing is one line, too.
with one_line_errors('--debug' in sys.argv):
    from mmdiffkd.testing import (
        make_mini_ade20k,
        make_mini_cifar100,
        make_mini_cityscapes,
        make_mini_coco,
        make_mini_imagenet,
    )

MAKERS = {
    'ade20k': make_mini_ade20k,
    'cifar100': make_mini_cifar100,
    'cityscapes': make_mini_cityscapes,
    'coco': make_mini_coco,
    'imagenet': make_mini_imagenet,
}


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(
        description='Write a small synthetic data set in the layout of a real one, so that '
        'unmodified configs run on it. Options left out keep the default of the data set.'
    )
    parser.add_argument('dataset', choices=sorted(MAKERS))
    parser.add_argument('directory', type=Path, help='new or empty directory to fill')
    parser.add_argument('--num-train', type=int, help='number of training pictures')
    parser.add_argument('--num-val', type=int, help='number of validation pictures')
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        metavar=('W', 'H'),
        help='picture size in pixels (not for cifar100)',
    )
    parser.add_argument('--num-classes', type=int, help='how many of the real classes occur')
    parser.add_argument('--seed', type=int, help='another seed gives other pictures')
    add_debug_argument(parser)
    return parser.parse_args()


def main() -> None:
    args = vars(parse_args())
    debug = args.pop('debug')
    dataset, directory = args.pop('dataset'), args.pop('directory')
    maker = MAKERS[dataset]
    options = {name: value for name, value in args.items() if value is not None}
    with one_line_errors(debug):
        for name in options.keys() - inspect.signature(maker).parameters:
            raise ConfigError(f'{dataset} has no option --{name.replace("_", "-")}')
        try:
            directory = maker(directory, **options)
        except OSError as error:
            raise SystemExit(f'{directory}: {error}') from error
    print(f'data set ready: {directory}')


if __name__ == '__main__':
    main()
