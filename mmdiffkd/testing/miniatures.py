"""Which miniature data set stands for which type of data set in a config."""

from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from mmengine.config import ConfigDict

from .mini_ade20k import make_mini_ade20k
from .mini_cifar100 import make_mini_cifar100
from .mini_cityscapes import make_mini_cityscapes
from .mini_coco import make_mini_coco
from .mini_imagenet import make_mini_imagenet


class Miniature(NamedTuple):
    """How a type of data set is replaced.

    Attributes:
        make: Writes it: ``make(root, dataset config, num_train=, num_val=, image_size=)``.
        train: Settings of the data set for the split that is trained on.
        val: Settings for the split that is validated on.
        shrinks: Whether the sizes in the config shrink too. Detectors and segmentors work at any
            size, many classifiers at their own only.
        batch_size: Training images per iteration. Pairs of logits need more than two: two random
            networks give two images nearly the same logits, and batch norm would divide by next to
            no variance.
    """

    make: Callable
    train: Dict
    val: Dict
    shrinks: bool = True
    batch_size: int = 2

    @classmethod
    def of_classifier(cls, make: Callable, train: Dict, val: Dict) -> 'Miniature':
        """Of data that classifiers train on."""
        return cls(make, train, val, shrinks=False, batch_size=4)


def _classes(dataset: ConfigDict) -> Optional[Sequence[str]]:
    """A user's own class names."""
    return (dataset.get('metainfo') or {}).get('classes')


def _make_coco(root: Path, dataset: ConfigDict, **options: Any) -> None:
    make_mini_coco(root, classes=_classes(dataset), **options)


def _make_ade20k(root: Path, dataset: ConfigDict, **options: Any) -> None:
    # mmseg itself maps the real classes to a selection of them.
    make_mini_ade20k(root, **options)


def _make_cityscapes(root: Path, dataset: ConfigDict, **options: Any) -> None:
    make_mini_cityscapes(root, **options)


def _make_own_maps(root: Path, dataset: ConfigDict, **options: Any) -> None:
    if _classes(dataset) is None:
        raise ValueError("--smoke: the data set's metainfo must name its classes")
    reduce_zero_label = bool(dataset.get('reduce_zero_label'))
    make_mini_ade20k(
        root, classes=_classes(dataset), reduce_zero_label=reduce_zero_label, **options
    )


def _make_imagenet(root: Path, dataset: ConfigDict, **options: Any) -> None:
    make_mini_imagenet(root, classes=_classes(dataset), **options)


def _make_own_folders(root: Path, dataset: ConfigDict, **options: Any) -> None:
    make_mini_imagenet(root, classes=_classes(dataset) or ('first', 'second'), **options)


def _make_cifar100(root: Path, dataset: ConfigDict, image_size: Tuple, **options: Any) -> None:
    make_mini_cifar100(root, **options)


def _coco_split(name: str) -> Dict:
    return dict(ann_file=f'annotations/instances_{name}.json', data_prefix=dict(img=f'{name}/'))


def _maps_split(images: str, labels: str) -> Dict:
    return dict(data_prefix=dict(img_path=images, seg_map_path=labels), ann_file='')


def _ade20k_split(name: str) -> Dict:
    return _maps_split(f'images/{name}', f'annotations/{name}')


def _cityscapes_split(name: str) -> Dict:
    return _maps_split(f'leftImg8bit/{name}', f'gtFine/{name}')


def _own_maps_split(name: str) -> Dict:
    return dict(_ade20k_split(name), img_suffix='.jpg', seg_map_suffix='.png')


def _imagenet_split(name: str) -> Dict:
    return dict(split=name, data_prefix='', ann_file='')


def _own_folders_split(name: str) -> Dict:
    return dict(data_prefix=name, ann_file='')


def _cifar100_split(name: str) -> Dict:
    # mmpretrain's own accepts the original files only.
    kind = 'mmdiffkd.datasets.cifar100.UnverifiedCIFAR100'
    return dict(type=kind, split=name, data_prefix='')


_CIFAR100 = Miniature.of_classifier(
    _make_cifar100, _cifar100_split('train'), _cifar100_split('test')
)

MINIATURES = dict(
    CocoDataset=Miniature(_make_coco, _coco_split('train2017'), _coco_split('val2017')),
    ADE20KDataset=Miniature(_make_ade20k, _ade20k_split('training'), _ade20k_split('validation')),
    CityscapesDataset=Miniature(
        _make_cityscapes, _cityscapes_split('train'), _cityscapes_split('val')
    ),
    BaseSegDataset=Miniature(
        _make_own_maps, _own_maps_split('training'), _own_maps_split('validation')
    ),
    ImageNet=Miniature.of_classifier(
        _make_imagenet, _imagenet_split('train'), _imagenet_split('val')
    ),
    CustomDataset=Miniature.of_classifier(
        _make_own_folders, _own_folders_split('train'), _own_folders_split('val')
    ),
    CIFAR100=_CIFAR100,
    UnverifiedCIFAR100=_CIFAR100,
)
"""By the class name of the data set."""
