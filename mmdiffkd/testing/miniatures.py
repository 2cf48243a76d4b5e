"""Which miniature data set stands for which type of data set in a config."""

import inspect
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from mmengine.config import ConfigDict

from .mini_ade20k import make_mini_ade20k
from .mini_cifar100 import make_mini_cifar100
from .mini_cityscapes import make_mini_cityscapes
from .mini_coco import make_mini_coco, write_stuff_maps
from .mini_imagenet import make_mini_imagenet


class Miniature(NamedTuple):
    """How a type of data set is replaced.

    Attributes:
        make: Writes it: ``make(root, dataset config, its class, num_train=, num_val=,
            image_size=)``. The class is None if it cannot be found.
        train: Settings of the data set for the split that is trained on.
        val: Settings for the split that is validated on.
        removed: Settings that are taken out.
        shrinks: Whether the sizes in the config shrink too. Detectors and segmentors work at any
            size, many classifiers at their own only.
        batch_size: Training images per iteration. Pairs of logits need more than two: two random
            networks give two images nearly the same logits, and batch norm would divide by next to
            no variance.
    """

    make: Callable
    train: Dict
    val: Dict
    removed: Tuple[str, ...] = ()
    shrinks: bool = True
    batch_size: int = 2

    @classmethod
    def of_classifier(
        cls, make: Callable, train: Dict, val: Dict, removed: Tuple[str, ...] = ()
    ) -> 'Miniature':
        """Of data that classifiers train on."""
        return cls(make, train, val, removed, shrinks=False, batch_size=4)


def _own_classes(dataset: ConfigDict) -> Optional[Sequence[str]]:
    """A user's own class names."""
    return (dataset.get('metainfo') or {}).get('classes')


def _classes(dataset: ConfigDict, cls: Optional[type]) -> Optional[Sequence[str]]:
    """The class names of a data set: the user's own, or those of its type."""
    return _own_classes(dataset) or getattr(cls, 'METAINFO', {}).get('classes')


def _make_coco(root: Path, dataset: ConfigDict, cls: Optional[type], **options: Any) -> None:
    if dataset.get('proposal_file') is not None:
        raise ValueError(
            '--smoke: there are no miniature proposals for proposal_file; choose a student that '
            'finds its own'
        )
    # The real data set has ids of its own; other data in COCO's format have their names only.
    is_coco = cls is None or cls.__name__ == 'CocoDataset'
    classes = _own_classes(dataset) if is_coco else _classes(dataset, cls)
    make_mini_coco(root, classes=classes, **options)
    write_stuff_maps(root)


def _make_ade20k(root: Path, dataset: ConfigDict, cls: Optional[type], **options: Any) -> None:
    # mmseg itself maps the real classes to a selection of them.
    make_mini_ade20k(root, **options)


def _make_cityscapes(root: Path, dataset: ConfigDict, cls: Optional[type], **options: Any) -> None:
    make_mini_cityscapes(root, **options)


def _make_label_maps(root: Path, dataset: ConfigDict, cls: Optional[type], **options: Any) -> None:
    """Folders of pictures and label maps, with the list of each that some types ask for."""
    classes = _classes(dataset, cls)
    if classes is None:
        raise ValueError("--smoke: the data set's metainfo must name its classes")
    reduce_zero_label = dataset.get('reduce_zero_label')
    if reduce_zero_label is None and cls is not None:
        reduce_zero_label = _default(cls, 'reduce_zero_label')
    make_mini_ade20k(root, classes=classes, reduce_zero_label=bool(reduce_zero_label), **options)
    for split in ('training', 'validation'):
        names = sorted(path.stem for path in Path(root, 'images', split).iterdir())
        Path(root, f'{split}.txt').write_text('\n'.join(names) + '\n')


def _default(cls: type, argument: str) -> Any:
    """The default of an argument that a class or one of its bases takes, or None."""
    for base in cls.__mro__:
        parameter = inspect.signature(base.__init__).parameters.get(argument)
        if parameter is not None and parameter.default is not parameter.empty:
            return parameter.default
    return None


def _make_imagenet(root: Path, dataset: ConfigDict, cls: Optional[type], **options: Any) -> None:
    make_mini_imagenet(root, classes=_own_classes(dataset), **options)


def _make_folders(root: Path, dataset: ConfigDict, cls: Optional[type], **options: Any) -> None:
    classes = _own_classes(dataset) or ('first', 'second')
    make_mini_imagenet(root, classes=classes, **options)


def _make_cifar100(
    root: Path, dataset: ConfigDict, cls: Optional[type], image_size: Tuple, **options: Any
) -> None:
    make_mini_cifar100(root, **options)


def _make_cifar10(
    root: Path, dataset: ConfigDict, cls: Optional[type], image_size: Tuple, **options: Any
) -> None:
    make_mini_cifar100(root, classes=_classes(dataset, cls), **options)


def _coco_split(name: str) -> Dict:
    return dict(
        ann_file=f'annotations/instances_{name}.json',
        data_prefix=dict(img=f'{name}/', seg=f'stuffthingmaps/{name}/'),
    )


def _maps_split(images: str, labels: str) -> Dict:
    return dict(data_prefix=dict(img_path=images, seg_map_path=labels), ann_file='')


def _ade20k_split(name: str) -> Dict:
    return _maps_split(f'images/{name}', f'annotations/{name}')


def _cityscapes_split(name: str) -> Dict:
    return _maps_split(f'leftImg8bit/{name}', f'gtFine/{name}')


def _label_maps_split(name: str) -> Dict:
    return dict(
        _ade20k_split(name), ann_file=f'{name}.txt', img_suffix='.jpg', seg_map_suffix='.png'
    )


def _imagenet_split(name: str) -> Dict:
    return dict(split=name, data_prefix='', ann_file='')


def _folders_split(name: str) -> Dict:
    return dict(data_prefix=name, ann_file='')


def _as_folders_split(name: str) -> Dict:
    return dict(_folders_split(name), type='CustomDataset')


def _cifar_split(name: str) -> Dict:
    # mmpretrain's own accept the original files only; the format of CIFAR-10 and -100 is the same.
    kind = 'mmdiffkd.datasets.cifar100.UnverifiedCIFAR100'
    return dict(type=kind, split=name, data_prefix='')


_AS_FOLDERS = Miniature.of_classifier(
    _make_folders, _as_folders_split('train'), _as_folders_split('val'), removed=('split',)
)

MINIATURES = {
    'mmdet.CocoDataset': Miniature(
        _make_coco, _coco_split('train2017'), _coco_split('val2017')
    ),
    'mmseg.ADE20KDataset': Miniature(
        _make_ade20k, _ade20k_split('training'), _ade20k_split('validation')
    ),
    'mmseg.CityscapesDataset': Miniature(
        _make_cityscapes, _cityscapes_split('train'), _cityscapes_split('val')
    ),
    'mmseg.BaseSegDataset': Miniature(
        _make_label_maps, _label_maps_split('training'), _label_maps_split('validation')
    ),
    'mmpretrain.ImageNet': Miniature.of_classifier(
        _make_imagenet, _imagenet_split('train'), _imagenet_split('val')
    ),
    'mmpretrain.CustomDataset': Miniature.of_classifier(
        _make_folders, _folders_split('train'), _folders_split('val')
    ),
    'mmpretrain.CIFAR100': Miniature.of_classifier(
        _make_cifar100, _cifar_split('train'), _cifar_split('test')
    ),
    'mmpretrain.CIFAR10': Miniature.of_classifier(
        _make_cifar10, _cifar_split('train'), _cifar_split('test')
    ),
    **{
        f'mmpretrain.{kind}': _AS_FOLDERS
        for kind in (
            'ImageNet21k', 'CUB', 'StanfordCars', 'Flowers102', 'Caltech101', 'FGVCAircraft',
            'Food101', 'DTD', 'OxfordIIITPet', 'Places205', 'SUN397',
        )
    },
}  # fmt: skip
"""By library and class of the data set; classes that derive from one of these are like it."""

# Classes that derive from one of these and read something else.
_UNLIKE = {
    'mmdet.CocoPanopticDataset', 'mmdet.LVISV05Dataset', 'mmdet.LVISV1Dataset',
    'mmdet.CocoCaptionDataset', 'mmdet.CocoSemiDataset', 'mmdet.RefCocoDataset',
    'mmseg.NYUDataset', 'mmseg.DSDLSegDataset', 'mmseg.HSIDrive20Dataset',
}  # fmt: skip


def miniature_of(cls: type) -> Optional[Miniature]:
    """The miniature for a class of data sets, or None if there is none."""
    for base in cls.__mro__:
        key = f'{base.__module__.partition(".")[0]}.{base.__name__}'
        if key in _UNLIKE:
            return None
        if key in MINIATURES:
            return MINIATURES[key]
    return None
