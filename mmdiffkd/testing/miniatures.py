"""Which miniature data set stands for which type of data set in a config."""

import inspect
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from mmengine.config import ConfigDict

from mmdiffkd.testing.mini_ade20k import make_mini_ade20k
from mmdiffkd.testing.mini_cifar100 import make_mini_cifar100
from mmdiffkd.testing.mini_coco import make_mini_coco, write_stuff_maps
from mmdiffkd.testing.mini_imagenet import make_mini_imagenet


class Miniature(NamedTuple):
    """How a type of data set is replaced.

    Attributes:
        make: Writes it: ``make(root, dataset config, its class, num_train=, num_val=,
            image_size=)``.
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


def class_names(dataset: ConfigDict, cls: type) -> Optional[List[str]]:
    """The class names that a data set has before it reads its data, or None.

    Args:
        dataset: Config of a data set.
        cls: Its class.
    """
    metainfo = dict(dataset.get('metainfo') or {})
    if dataset.get('classes') is not None:
        # mmpretrain's argument; its metainfo comes first.
        metainfo.setdefault('classes', dataset.classes)
    if isinstance(metainfo.get('classes'), str):
        metainfo['classes'] = str(Path(metainfo['classes']).expanduser())
    # Private, but the only thing that says it without reading any data: data sets of all three
    # hosts read files of names, and names that their class has, in here.
    names = cls._load_metainfo(metainfo).get('classes')
    # COCO's tools take a single name as it is.
    return [names] if isinstance(names, str) else list(names or ()) or None


def _make_coco(root: Path, dataset: ConfigDict, cls: type, **options: Any) -> None:
    if dataset.get('proposal_file') is not None:
        raise ValueError(
            '--smoke: there are no miniature proposals for proposal_file; choose a student that '
            'finds its own'
        )
    make_mini_coco(root, classes=class_names(dataset, cls), **options)
    write_stuff_maps(root)


def _make_label_maps(root: Path, dataset: ConfigDict, cls: type, **options: Any) -> None:
    """Folders of pictures and label maps, with the list of each that some types ask for."""
    classes = class_names(dataset, cls) or _ANY_CLASSES
    # mmseg itself maps the labels of a class of data sets to the user's selection of them.
    known = list(cls.METAINFO.get('classes') or classes)
    labels = [known.index(name) for name in classes if name in known]
    reduce_zero_label = dataset.get('reduce_zero_label')
    if reduce_zero_label is None:
        reduce_zero_label = _default(cls, 'reduce_zero_label')
    make_mini_ade20k(
        root, classes=known, labels=labels, reduce_zero_label=bool(reduce_zero_label), **options
    )
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


def _make_imagenet(root: Path, dataset: ConfigDict, cls: type, **options: Any) -> None:
    make_mini_imagenet(root, classes=class_names(dataset, cls) or _ANY_CLASSES, **options)


def _make_cifar(
    root: Path, dataset: ConfigDict, cls: type, image_size: Tuple, **options: Any
) -> None:
    make_mini_cifar100(root, classes=class_names(dataset, cls), **options)


def _coco_split(name: str) -> Dict:
    return dict(
        ann_file=f'annotations/instances_{name}.json',
        data_prefix=dict(img=f'{name}/', seg=f'stuffthingmaps/{name}/'),
    )


def _label_maps_split(name: str) -> Dict:
    return dict(
        data_prefix=dict(img_path=f'images/{name}', seg_map_path=f'annotations/{name}'),
        ann_file=f'{name}.txt',
        img_suffix='.jpg',
        seg_map_suffix='.png',
    )


def _imagenet_split(name: str) -> Dict:
    return dict(split=name, data_prefix='', ann_file='')


def _folders_split(name: str) -> Dict:
    return dict(data_prefix=name, ann_file='')


def _as_folders_split(name: str) -> Dict:
    return dict(_folders_split(name), type='mmpretrain.CustomDataset')


def _cifar_split(name: str) -> Dict:
    # mmpretrain's own accept the original files only; the format of CIFAR-10 and -100 is the same.
    kind = 'mmdiffkd.datasets.cifar100.UnverifiedCIFAR100'
    return dict(type=kind, split=name, data_prefix='')


# Of data that are not there, and whose folders would tell.
_ANY_CLASSES = ('first', 'second')

_AS_FOLDERS = Miniature.of_classifier(
    _make_imagenet, _as_folders_split('train'), _as_folders_split('val'), removed=('split',)
)

MINIATURES = {
    'mmdet.CocoDataset': Miniature(
        _make_coco, _coco_split('train2017'), _coco_split('val2017')
    ),
    'mmseg.BaseSegDataset': Miniature(
        _make_label_maps, _label_maps_split('training'), _label_maps_split('validation')
    ),
    'mmpretrain.ImageNet': Miniature.of_classifier(
        _make_imagenet, _imagenet_split('train'), _imagenet_split('val')
    ),
    'mmpretrain.CustomDataset': Miniature.of_classifier(
        _make_imagenet, _folders_split('train'), _folders_split('val')
    ),
    'mmpretrain.CIFAR100': Miniature.of_classifier(
        _make_cifar, _cifar_split('train'), _cifar_split('test')
    ),
    'mmpretrain.CIFAR10': Miniature.of_classifier(
        _make_cifar, _cifar_split('train'), _cifar_split('test')
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
