"""Turn any config into one that answers "does it run?" in about a minute, offline."""

from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Tuple

from mmengine.config import Config, ConfigDict
from mmengine.dist import barrier, get_world_size, is_main_process

from mmdiffkd.distillers.build import student_config

from .mini_coco import make_mini_coco

_BATCH_SIZE = 2
_ITERATIONS = 2
# Width and height of the images, in pixels.
_IMAGE_SIZE = (160, 112)


class _Miniature(NamedTuple):
    """How a type of data set is replaced: its maker, and where the maker puts each split."""

    make: Callable
    train: Dict
    val: Dict


def _coco_split(name: str) -> Dict:
    return dict(ann_file=f'annotations/instances_{name}.json', data_prefix=dict(img=f'{name}/'))


_MINIATURES = dict(
    CocoDataset=_Miniature(make_mini_coco, _coco_split('train2017'), _coco_split('val2017'))
)

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_EVALUATORS = ('val_evaluator', 'test_evaluator')


def make_smoke_config(cfg: Config, image_size: Tuple[int, int] = _IMAGE_SIZE) -> Config:
    """A copy of ``cfg`` that trains two iterations, validates once and saves one checkpoint.

    A miniature data set of the config's own kind is made under the work directory, images
    shrink, weights are random, the batch is 2. Model, losses, optimizer, hooks and evaluation
    stay the config's own.

    Args:
        cfg: A complete training config with ``work_dir``.
        image_size: Width and height of the images in pixels.

    Returns:
        The changed copy; its work directory is ``smoke`` below the one given.

    Raises:
        ValueError: If there is no miniature of the config's data set.
    """
    cfg = Config(cfg.to_dict(), filename=cfg.filename)
    cfg.work_dir = str(Path(cfg.work_dir, 'smoke'))
    _use_miniature_data(cfg, image_size)
    for loader in _LOADERS:
        _shrink_loader(cfg.get(loader), max(image_size))
    _forget_weights(cfg)
    _shorten_schedule(cfg)
    return cfg


def _use_miniature_data(cfg: Config, image_size: Tuple[int, int]) -> None:
    dataset = _innermost_dataset(cfg.train_dataloader.dataset)
    kind = getattr(dataset.type, '__name__', dataset.type).rpartition('.')[-1]
    if kind not in _MINIATURES:
        raise ValueError(
            f'--smoke: no miniature of {kind!r} (there are miniatures of {", ".join(_MINIATURES)})'
        )
    miniature = _MINIATURES[kind]
    root = Path(cfg.work_dir, 'data')
    if is_main_process():
        miniature.make(
            root,
            num_train=_BATCH_SIZE * _ITERATIONS * get_world_size(),
            num_val=2,
            image_size=image_size,
            classes=(dataset.get('metainfo') or {}).get('classes'),
        )
    barrier()
    for key in _LOADERS:
        if cfg.get(key) is not None:
            split = miniature.train if key == 'train_dataloader' else miniature.val
            _innermost_dataset(cfg[key].dataset).update(data_root=f'{root}/', **split)
    for key in _EVALUATORS:
        evaluators = cfg.get(key) or []
        for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
            if 'ann_file' in evaluator:
                evaluator.ann_file = str(root / miniature.val['ann_file'])


def _innermost_dataset(dataset: ConfigDict) -> ConfigDict:
    """The data set inside wrappers such as ``RepeatDataset``."""
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset


def _shrink_loader(loader: Any, longest_side: int) -> None:
    if loader is None:
        return
    loader.num_workers = 0
    loader.persistent_workers = False
    if loader.get('batch_size', 1) > 1:
        loader.batch_size = _BATCH_SIZE
    dataset = loader.dataset
    while True:
        for transform in dataset.get('pipeline', ()):
            for key in ('scale', 'scales', 'img_scale'):
                if transform.get(key) is not None:
                    transform[key] = _shrink_scale(transform[key], longest_side)
        if 'times' in dataset:
            dataset.times = 1
        if 'dataset' not in dataset:
            break
        dataset = dataset.dataset


def _shrink_scale(scale: Any, longest_side: int) -> Any:
    """Cap both sides of a scale (width, height), or of each of a list of them."""
    if isinstance(scale, (list, tuple)):
        return type(scale)(_shrink_scale(item, longest_side) for item in scale)
    return min(scale, longest_side)


def _forget_weights(cfg: Config) -> None:
    """Random weights everywhere, so that nothing is downloaded."""
    cfg.load_from = None
    if 'student' in cfg.model:
        cfg.model.teacher.checkpoint = 'random'
        # It may be given by a name or a path.
        cfg.model.student = student_config(cfg.model)

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            inits = value.get('init_cfg')
            for init in inits if isinstance(inits, (list, tuple)) else [inits]:
                if isinstance(init, dict) and init.get('type') == 'Pretrained':
                    value['init_cfg'] = None
            for item in value.values():
                visit(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                visit(item)

    visit(cfg.model)


def _shorten_schedule(cfg: Config) -> None:
    if cfg.train_cfg.get('by_epoch', cfg.train_cfg.get('type') != 'IterBasedTrainLoop'):
        # The miniature has just the images of the wanted iterations.
        cfg.train_cfg.update(max_epochs=1, val_interval=1)
        interval = 1
    else:
        cfg.train_cfg.update(max_iters=_ITERATIONS, val_interval=_ITERATIONS)
        interval = _ITERATIONS
    cfg.train_cfg.pop('dynamic_intervals', None)
    cfg.default_hooks.checkpoint.interval = interval
    cfg.default_hooks.logger.interval = 1
