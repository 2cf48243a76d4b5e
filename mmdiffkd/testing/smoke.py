"""Turn any config into one that answers "does it run?" in about a minute, offline."""

from pathlib import Path
from typing import Any, Tuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.registry import DATASETS

from mmdiffkd.distillers.build import (
    dicts_in,
    forget_weights,
    model_config,
)

from .miniatures import MINIATURES, Miniature, miniature_of

_ITERATIONS = 2
# What mmengine's parameter schedulers take for infinity.
_NO_END = int(1e9)
# Width and height of the images, in pixels: enough for the 900 places from which DINO and
# other detectors choose their queries.
_IMAGE_SIZE = (256, 192)
# Where configs write sizes in pixels: transforms of the pipelines, preprocessors that pad.
_SIZE_KEYS = ('scale', 'scales', 'img_scale', 'crop_size', 'size')


_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_EVALUATORS = ('val_evaluator', 'test_evaluator')


def make_smoke_config(cfg: Config, image_size: Tuple[int, int] = _IMAGE_SIZE) -> Config:
    """A copy of ``cfg`` that trains two iterations, validates once and saves one checkpoint.

    A miniature data set of the config's own kind is made under the work directory, images
    shrink (not those of classifiers), weights are random, the batch is 2 (4 for classifiers).
    Model, losses, optimizer, hooks and evaluation stay the config's own, except that without a GPU
    mixed precision is left out.

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
    miniature, dataset_class = _miniature_of(cfg)
    _use_miniature_data(cfg, miniature, dataset_class, image_size)
    for key in _LOADERS:
        if cfg.get(key) is not None:
            _shrink_loader(cfg[key], miniature.batch_size)
    _forget_weights(cfg)
    if miniature.shrinks:
        _shrink_sizes(cfg, max(image_size))
    _shorten_schedule(cfg)
    _distil_from_the_start(cfg)
    if not torch.cuda.is_available():
        _leave_mixed_precision(cfg)
    return cfg


def _miniature_of(cfg: Config) -> Tuple[Miniature, type]:
    """What stands for the training data, and the class of these."""
    kind = _innermost_dataset(cfg.train_dataloader.dataset).type
    cls = kind
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
            cls = registry.get(kind)
    miniature = None if cls is None else miniature_of(cls)
    if miniature is None:
        known = ', '.join(name.rpartition('.')[-1] for name in MINIATURES)
        name = getattr(cls, '__name__', kind)
        raise ValueError(f'--smoke: no miniature of {name!r} (there are miniatures of {known})')
    return miniature, cls


def _use_miniature_data(
    cfg: Config, miniature: Miniature, cls: type, image_size: Tuple[int, int]
) -> None:
    num_train = miniature.batch_size * _ITERATIONS * get_world_size()
    # Runs with other numbers of processes may share the work directory.
    root = Path(cfg.work_dir, f'data_{num_train}')
    if is_main_process():
        miniature.make(
            root,
            _innermost_dataset(cfg.train_dataloader.dataset),
            cls,
            num_train=num_train,
            num_val=2,
            image_size=image_size,
        )
    barrier()
    for key in _LOADERS:
        if cfg.get(key) is not None:
            split = miniature.train if key == 'train_dataloader' else miniature.val
            dataset = _innermost_dataset(cfg[key].dataset)
            dataset.update(data_root=f'{root}/', **split)
            for name in miniature.removed:
                dataset.pop(name, None)
    for key in _EVALUATORS:
        evaluators = cfg.get(key) or []
        for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
            if 'ann_file' in evaluator:
                evaluator.ann_file = str(root / miniature.val['ann_file'])


def _innermost_dataset(dataset: ConfigDict) -> ConfigDict:
    """The data set inside wrappers such as ``RepeatDataset``; of several the first."""
    while 'dataset' in dataset or 'datasets' in dataset:
        if 'datasets' in dataset:
            dataset.datasets = dataset.datasets[:1]
            dataset = dataset.datasets[0]
        else:
            dataset = dataset.dataset
    return dataset


def _shrink_loader(loader: ConfigDict, batch_size: int) -> None:
    """A few images at a time, loaded by the training process itself, each of them once."""
    loader.num_workers = 0
    loader.persistent_workers = False
    if loader.get('batch_size', 1) > 1:
        loader.batch_size = batch_size
    for part in dicts_in(loader.dataset):
        if 'times' in part:
            part.times = 1


def _shrink_sizes(cfg: Config, longest_side: int) -> None:
    """Cap all sizes in pixels: those of the pipelines, and those that batches are padded to."""
    # SSD has layers that a smaller image does not reach.
    needed = [part.get('input_size', 0) for part in dicts_in(cfg.model)]
    longest_side = max(longest_side, *(size for size in needed if isinstance(size, int)))
    parts = [cfg[key].dataset for key in _LOADERS if cfg.get(key) is not None]
    models = [cfg.model, cfg.model.get('student', {})]
    parts += [model.get('data_preprocessor') for model in models]
    parts += [cfg.get('data_preprocessor')]
    for part in dicts_in(parts):
        for key in _SIZE_KEYS:
            if part.get(key) is not None:
                part[key] = _shrink_scale(part[key], longest_side)


def _shrink_scale(scale: Any, longest_side: int) -> Any:
    """Cap both sides of a scale (width, height), or of each of a list of them."""
    if isinstance(scale, (list, tuple)):
        return type(scale)(_shrink_scale(item, longest_side) for item in scale)
    return min(scale, longest_side)


def _forget_weights(cfg: Config) -> None:
    """Random weights everywhere, so that nothing is downloaded."""
    cfg.load_from = None
    model = cfg.model
    while 'student' in model:
        model.teacher.checkpoint = 'random'
        # It may be given by a name or a path, and be a distiller, too.
        model.student, _ = model_config(model.student, 'student')
        model = model.student
    forget_weights(cfg.model)


def _shorten_schedule(cfg: Config) -> None:
    by_epoch = cfg.train_cfg.get('by_epoch', cfg.train_cfg.get('type') != 'IterBasedTrainLoop')
    _pin_scheduler_ends(cfg, by_epoch)
    if by_epoch:
        # The miniature has just the images of the wanted iterations.
        cfg.train_cfg.update(max_epochs=1, val_interval=1)
        interval = 1
    else:
        cfg.train_cfg.update(max_iters=_ITERATIONS, val_interval=_ITERATIONS)
        interval = _ITERATIONS
    cfg.train_cfg.pop('dynamic_intervals', None)
    cfg.default_hooks.checkpoint.interval = interval
    cfg.default_hooks.logger.interval = 1


def _pin_scheduler_ends(cfg: Config, by_epoch: bool) -> None:
    """Write down where the parameter schedulers end.

    mmengine lets those without an end stop with the training, which is soon to be shorter than
    many a warm-up.
    """
    length = cfg.train_cfg.get('max_epochs' if by_epoch else 'max_iters')
    for part in dicts_in(cfg.get('param_scheduler')):
        if 'type' in part:
            same_unit = part.get('by_epoch', True) == by_epoch
            part.setdefault('end', length if same_unit else _NO_END)


def _distil_from_the_start(cfg: Config) -> None:
    """Leave out when distillation would start: later than the smoke run ends."""
    for hook in cfg.get('custom_hooks') or ():
        kind = getattr(hook.type, '__name__', hook.type)
        if kind.rpartition('.')[-1] == 'DistillationScheduleHook':
            for part in (hook, *(hook.get('pairs') or {}).values()):
                part.pop('begin', None)


def _leave_mixed_precision(cfg: Config) -> None:
    """Train in single precision: mmengine trains in mixed precision on a GPU only."""
    wrapper = cfg.optim_wrapper
    if wrapper.get('type') == 'AmpOptimWrapper':
        wrapper.type = 'OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)
