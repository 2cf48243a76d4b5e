"""A miniature ImageNet-1k: the real layout, folder names and labels; synthetic pictures."""

from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from mmdiffkd.testing.making import (
    build_splits,
    check_classes,
    check_range,
    check_size,
    picture_rng,
    write_image,
)
from mmdiffkd.testing.scenes import draw_class, smallest_size, vary_size


class Synset(NamedTuple):
    """A category of ImageNet-1k."""

    wnid: str
    """Its WordNet id, which names its folder."""
    label: int
    """Its place among the 1000 sorted ids, from 0."""
    name: str


SYNSETS = (
    Synset('n03642806', 620, 'laptop'),
    Synset('n04254680', 805, 'soccer ball'),
    Synset('n04548280', 892, 'wall clock'),
    Synset('n04552348', 895, 'warplane'),
    Synset('n06794110', 919, 'street sign'),
    Synset('n07695742', 932, 'pretzel'),
    Synset('n07747607', 950, 'orange'),
    Synset('n07873807', 963, 'pizza'),
    Synset('n09229709', 971, 'bubble'),
    Synset('n11939491', 985, 'daisy'),
)
"""The categories that can occur."""

_MIN_SIDE = 32


def make_mini_imagenet(
    root: Union[str, Path],
    num_train: int = 16,
    num_val: int = 8,
    image_size: Tuple[int, int] = (128, 96),
    num_classes: int = 4,
    seed: int = 0,
    classes: Optional[Sequence[str]] = None,
) -> Path:
    """Write a small synthetic classification data set in the layout of ImageNet-1k.

    ``root`` receives::

        train/n03642806/n03642806_1.JPEG              meta/train.txt
        val/n03642806/ILSVRC2012_val_00000001.JPEG    meta/val.txt

    The lines of ``meta/*.txt`` read ``n03642806/n03642806_1.JPEG 620``: the path below ``train``
    or ``val``, and ImageNet's own label, 0..999. mmpretrain's ``ImageNet`` takes the labels from
    there. Whatever numbers the sorted folders instead, as torchvision's ``ImageFolder`` does,
    sees ``num_classes`` classes 0, 1, ...; mmpretrain without ``meta`` refuses anything but 1000
    folders. The classes take turns and tell themselves apart by a shape and a tint.

    The same arguments give the same data, and a picture does not depend on how many there are.
    A data set that is there already is reused.

    Args:
        root: Directory to make, by mmpretrain's default ``data/imagenet``.
        num_train: Number of training pictures, at least 1.
        num_val: Number of validation pictures, at least 1.
        image_size: Largest width and height in pixels; pictures are up to 8 % smaller.
        num_classes: How many of the 1000 classes occur: the first ones of :data:`SYNSETS`, 1 to
            10. Without effect if ``classes`` are given.
        seed: Any non-negative integer.
        classes: Class names of other data in this layout, 1 to 10000. All occur that there are
            pictures for, class i has label i in ``meta``, and its folder (there even if empty)
            is the name with i in front, ``0002_dog``, so that sorted folders give the same.

    Returns:
        ``root`` as an absolute path.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` holds other data, which is never overwritten.
    """
    check_range('num_classes', num_classes, 1, len(SYNSETS))
    scene = dict(
        image_size=check_size(image_size, smallest_size(_MIN_SIDE)),
        num_classes=num_classes,
        seed=seed,
        classes=check_classes(classes, 10_000),
    )
    return build_splits(root, 'imagenet', num_train, num_val, scene, partial(_write_split, scene))


def _write_split(scene: Dict[str, Any], directory: Path, split: str, count: int) -> Iterator[None]:
    """Write the pictures and the list of one split; yield after each picture."""
    folders = _folders(scene['num_classes'], scene['classes'])
    for folder, _ in folders:
        (directory / split / folder).mkdir(parents=True)
    lines = []
    for index in range(count):
        look = index % len(folders)
        folder, label = folders[look]
        rng = picture_rng(scene['seed'], split, index)
        picture = draw_class(rng, vary_size(rng, scene['image_size']), look)
        stem = folder if split == 'train' else 'ILSVRC2012_val'
        number = f'{index + 1}' if split == 'train' else f'{index + 1:08d}'
        name = f'{folder}/{stem}_{number}.JPEG'
        write_image(directory / split / name, picture)
        lines.append(f'{name} {label}\n')
        yield
    (directory / 'meta').mkdir(exist_ok=True)
    (directory / f'meta/{split}.txt').write_text(''.join(sorted(lines)))


def _folders(num_classes: int, classes: Optional[Sequence[str]]) -> List[Tuple[str, int]]:
    """The folder and the label of each class that occurs."""
    if classes is None:
        return [(synset.wnid, synset.label) for synset in SYNSETS[:num_classes]]
    # A name may hold what a path cannot.
    safe = (''.join(c if c.isalnum() else '_' for c in name) for name in classes)
    return [(f'{label:04d}_{name}', label) for label, name in enumerate(safe)]
