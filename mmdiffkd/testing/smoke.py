"""Turn any config into one that answers "does it run?" in about a minute, offline."""

import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.registry import DATASETS

from mmdiffkd.errors import ConfigError, suggest
from mmdiffkd.models.configs import dicts_in, forget_weights, model_config
from mmdiffkd.testing.miniatures import MINIATURES, Miniature, miniature_of

_ITERATIONS = 2
# What mmengine's parameter schedulers take for infinity.
_NO_END = int(1e9)
# Width and height of the images, in pixels: enough for the 900 places from which DINO and
# other detectors choose their queries.
_IMAGE_SIZE = (256, 192)
# Where configs write sizes in pixels: transforms of the pipelines, preprocessors that pad.
_SIZE_KEYS = ('scale', 'scales', 'img_scale', 'crop_size', 'size')


# What stands for all that a data set has: the miniature is small as it is.
_SELECTIONS = ('filter_cfg', 'indices')
# Of loaders: torch refuses these without worker processes; the last one sizes an epoch.
_OF_WORKERS = ('prefetch_factor', 'timeout', 'multiprocessing_context', 'num_batch_per_epoch')
_VAL_IMAGES = 2

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


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
        ConfigError: If there is no miniature of the config's data set.
    """
    cfg = Config(cfg.to_dict(), filename=cfg.filename)
    cfg.work_dir = str(Path(cfg.work_dir, 'smoke'))
    miniature = _use_miniature_data(cfg, image_size)
    _forget_weights(cfg)
    if miniature.shrinks:
        _shrink_sizes(cfg, max(image_size))
    _shorten_schedule(cfg)
    _distil_from_the_start(cfg)
    if not torch.cuda.is_available():
        _leave_mixed_precision(cfg)
    return cfg


def _use_miniature_data(cfg: Config, image_size: Tuple[int, int]) -> Miniature:
    """Put a miniature in the place of each data set; returns that of the training data."""
    first = None
    for key in _LOADERS:
        loader = cfg.get(key)
        if loader is None:
            continue
        datasets = list(_innermost_datasets(loader.dataset))
        kinds = [_miniature_of(dataset, key, cfg.get('default_scope')) for dataset in datasets]
        first = first or kinds[0][0]
        training = key == 'train_dataloader'
        total = _shrink_loader(loader, first.batch_size) * _ITERATIONS * get_world_size()
        total = total if training else _VAL_IMAGES
        for number, (dataset, (miniature, cls)) in enumerate(zip(datasets, kinds)):
            # Shares of the total, as equal as can be.
            count = max(1, (total + number) // len(datasets))
            # Runs with other numbers of processes may share the work directory.
            root = Path(cfg.work_dir, 'data', f'{key}_{number}_{count}')
            if is_main_process():
                # Of a run before, perhaps with other classes.
                shutil.rmtree(root, ignore_errors=True)
                counts = dict(num_train=count, num_val=count)
                miniature.make(root, dataset, cls, **counts, image_size=image_size)
            split = miniature.train if training else miniature.val
            dataset.update(data_root=f'{root}/', **split)
            for name in (*_SELECTIONS, *miniature.removed):
                dataset.pop(name, None)
        _read_annotations(cfg.get(key.replace('dataloader', 'evaluator')), datasets)
    barrier()
    return first


def _innermost_datasets(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """The data sets inside wrappers such as ``RepeatDataset`` and ``ConcatDataset``."""
    inside = dataset.get('datasets') or [dataset.get('dataset')]
    if inside == [None]:
        yield dataset
        return
    if 'times' in dataset:
        dataset.times = 1
    if 'fold' in dataset or 'num_splits' in dataset:
        # All of the images, on either side: the first of a million folds has none.
        dataset.update(fold=0, num_splits=1 if dataset.get('test_mode') else 1_000_000)
    for part in inside:
        yield from _innermost_datasets(part)


def _miniature_of(dataset: ConfigDict, key: str, scope: Optional[str]) -> Tuple[Miniature, type]:
    """What stands for a data set, and the class of this."""
    cls, name = dataset.type, _type_name(dataset)
    if isinstance(cls, str):
        # Of a base named 'library::config' each type has a scope.
        with DATASETS.switch_scope_and_registry(dataset.get('_scope_', scope)) as registry:
            cls = registry.get(cls)
        if cls is None:
            hint = suggest(name, registry.module_dict)
            raise ConfigError(f'{key}: no data set {name!r} in {registry.scope}{hint}')
    miniature = miniature_of(cls)
    if miniature is None:
        known = ', '.join(key.rpartition('.')[-1] for key in MINIATURES)
        raise ConfigError(
            f'--smoke: no miniature of {name!r} of {key} (there are miniatures of {known})'
        )
    return miniature, cls


def _read_annotations(evaluator: Any, datasets: Sequence[ConfigDict]) -> None:
    """Let metrics that read annotation files read those of the miniatures."""
    metrics = [part for part in dicts_in(evaluator) if 'ann_file' in part]
    for number, metric in enumerate(metrics):
        # Of several data sets each has its own, or all are for the only one.
        dataset = datasets[min(number, len(datasets) - 1)]
        metric['ann_file'] = f'{dataset.data_root}{dataset.ann_file}'


def _shrink_loader(loader: ConfigDict, batch_size: int) -> int:
    """A few images at a time, loaded by the training process itself; returns how many."""
    loader.update(num_workers=0, persistent_workers=False)
    for name in _OF_WORKERS:
        loader.pop(name, None)
    sampler = loader.get('sampler') or {}
    # Samplers that count the images of each data set.
    if 'dataset_size' in sampler:
        sampler.dataset_size = [-1] * len(sampler.dataset_size)
    if 'source_ratio' in sampler:
        sampler.source_ratio = [1] * len(sampler.source_ratio)
        sampler.batch_size = loader.batch_size = len(sampler.source_ratio)
    sizes = loader.get('batch_size', 1)
    if 'batch_size' not in sampler:
        several = isinstance(sizes, (list, tuple))
        small = [batch_size if size > 1 else 1 for size in (sizes if several else [sizes])]
        sizes = loader.batch_size = small if several else small[0]
    return sum(sizes) if isinstance(sizes, (list, tuple)) else sizes


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
        model.student = model_config(model.student, 'student')
        model = model.student
    forget_weights(model)


def _shorten_schedule(cfg: Config) -> None:
    by_epoch = 'max_iters' not in cfg.train_cfg
    _pin_scheduler_ends(cfg, by_epoch)
    # The miniature has just the images of the wanted iterations.
    length = dict(max_epochs=1) if by_epoch else dict(max_iters=_ITERATIONS)
    cfg.train_cfg.update(length, val_interval=next(iter(length.values())))
    for name in ('val_begin', 'dynamic_intervals'):
        cfg.train_cfg.pop(name, None)
    # What mmengine has where a config has none.
    hooks = dict(
        logger=dict(type='LoggerHook'),
        checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch),
    )
    hooks.update(cfg.get('default_hooks') or {})
    if hooks['logger'] is not None:
        hooks['logger']['interval'] = 1
    if hooks['checkpoint'] is not None:
        by_epoch = hooks['checkpoint'].get('by_epoch', True)
        hooks['checkpoint'].update(interval=1 if by_epoch else _ITERATIONS, save_begin=0)
    cfg.default_hooks = hooks


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
        if _type_name(hook) == 'DistillationScheduleHook':
            for part in (hook, *(hook.get('pairs') or {}).values()):
                part.pop('begin', None)


def _leave_mixed_precision(cfg: Config) -> None:
    """Train in single precision: mmengine trains in mixed precision on a GPU only."""
    wrapper = cfg.optim_wrapper
    if _type_name(wrapper) == 'AmpOptimWrapper':
        wrapper.type = 'OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)


def _type_name(part: Dict) -> str:
    """The ``type`` of a part of a config, a class or a name with or without its scope."""
    kind = part.get('type')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[-1]
