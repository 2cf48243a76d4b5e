"""Turn any config into one that shows in about a minute, offline, whether it runs."""

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
from mmengine.config import Config

from mmdiffkd.models.configs import (
    add_hook,
    dicts_in,
    forget_weights,
    model_config,
    teachers_in,
    type_name,
)
from mmdiffkd.testing.miniatures import ITERATIONS, LOADERS, use_miniature_data

# mmengine's parameter schedulers take this for infinity.
_NO_END = int(1e9)
# Width and height in pixels. At a stride of 128, the largest of a pyramid, two rows and columns are
# left: on a single value of each of two images batch norm would have gradients without bound.
_IMAGE_SIZE = (192, 144)
# Enough for the 900 places of the maps from which DINO chooses its queries.
_IMAGE_SIZE_FOR_QUERIES = (256, 192)
# Segmentors compute on large maps, which takes long on a CPU.
_IMAGE_SIZE_OF_SEGMENTORS = (128, 96)
# Keys of sizes in pixels: of models, and of transforms and preprocessors that pad.
_MODEL_SIZE_KEYS = ('input_size', 'img_size')
_SIZE_KEYS = ('scale', 'scales', 'img_scale', 'crop_size', 'size')


def make_smoke_config(cfg: Config, image_size: Optional[Tuple[int, int]] = None) -> Config:
    """A copy of a config that trains two iterations, validates once and saves one checkpoint.

    Miniature data of the config's own kind is written below the work directory, images shrink to
    ``image_size`` (width and height in pixels; not those of classifiers; 192x144 by default,
    256x192 for detectors with queries, 128x96 for segmentors), weights are random, and the batch
    size is 2 (4 for classifiers). Model, losses, optimizer, hooks and evaluation stay, except that
    mixed precision is left out without a GPU. The copy's work directory is ``smoke`` below the one
    given. A data set that has no miniature is a :class:`ConfigError`.
    """
    cfg = Config(cfg.to_dict(), filename=cfg.filename)
    cfg.work_dir = str(Path(cfg.work_dir, 'smoke'))
    # A miniature may stand for a data set with other classes.
    cfg.check_data = False
    models = _forget_weights(cfg)
    # Random weights give no score above a usual threshold, and without boxes nothing is evaluated.
    for part in dicts_in(models[-1].get('test_cfg')):
        if 'score_thr' in part:
            part['score_thr'] = 0.0
    if image_size is None:
        queries = any('num_queries' in part for part in dicts_in(models))
        image_size = _IMAGE_SIZE_FOR_QUERIES if queries else _IMAGE_SIZE
        if cfg.get('default_scope') == 'mmseg':
            image_size = _IMAGE_SIZE_OF_SEGMENTORS
    is_classifier = use_miniature_data(cfg, image_size)
    # Many classifiers work at their own size only.
    if not is_classifier:
        _shrink_sizes(cfg, max(image_size))
    _shorten_schedule(cfg)
    _distil_from_the_start(cfg)
    if 'student' in cfg.model:
        add_hook(cfg, 'mmdiffkd.FeaturePictureHook', interval=ITERATIONS + 1, num_images=1)
    if not torch.cuda.is_available():
        _leave_mixed_precision(cfg)
    return cfg


def _forget_weights(cfg: Config) -> List[Dict]:
    """Use random weights everywhere, so that nothing is downloaded; returns all model dicts."""
    cfg.load_from, cfg.resume = None, False
    model, models = cfg.model, []
    for key, teacher in teachers_in(model).items():
        if 'average' not in teacher:
            models.append(model_config(teacher.get('config'), f'{key}.config'))
            teacher['checkpoint'] = 'random'
    if 'student' in model:
        # It may be given as a name or a path.
        model.student = model_config(model.student, 'student')
        model = model.student
    return [*models, forget_weights(model)]


def _shrink_sizes(cfg: Config, longest_side: int) -> None:
    """Cap all sizes in pixels, of the pipelines and of the padding of batches."""
    # SSD has layers for which a smaller image is too small, BEiT works at one size only.
    needed = [part.get(key, 0) for part in dicts_in(cfg.model) for key in _MODEL_SIZE_KEYS]
    sizes = [size if isinstance(size, (list, tuple)) else [size] for size in needed]
    sides = [side for size in sizes for side in size if isinstance(side, int)]
    longest_side = max(longest_side, *sides)
    parts = [cfg[key].dataset for key in LOADERS if cfg.get(key) is not None]
    models = [cfg.model, cfg.model.get('student', {})]
    parts += [model.get('data_preprocessor') for model in models]
    parts += [cfg.get('data_preprocessor')]
    for part in dicts_in(parts):
        for key in _SIZE_KEYS:
            if part.get(key) is not None:
                part[key] = _cap(part[key], longest_side)
        if 'border' in part:
            # Behind a mosaic half of the image's sides is cut off, as a negative border.
            part.border = tuple(max(side, -longest_side // 2) for side in part.border)
        # Segmentors are validated on crops, which a longer side alone does not fill.
        if cfg.get('default_scope') == 'mmseg' and type_name(part) == 'Resize':
            part['keep_ratio'] = False


def _cap(size: Any, longest_side: int) -> Any:
    """Cap a number of pixels, or all numbers in a (list of) width and height."""
    if isinstance(size, (list, tuple)):
        return type(size)(_cap(item, longest_side) for item in size)
    return min(size, longest_side)


def _shorten_schedule(cfg: Config) -> None:
    """Train for two iterations, then validate and save; log each iteration."""
    by_epoch = 'max_iters' not in cfg.train_cfg
    _pin_scheduler_ends(cfg, by_epoch)
    # The miniature has exactly the images of the wanted iterations.
    length = dict(max_epochs=1) if by_epoch else dict(max_iters=ITERATIONS)
    cfg.train_cfg.update(length, val_interval=1 if by_epoch else ITERATIONS)
    for name in ('val_begin', 'dynamic_intervals'):
        cfg.train_cfg.pop(name, None)
    hooks = dict(  # mmengine's defaults
        logger=dict(type='LoggerHook'),
        checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch),
    )
    hooks.update(cfg.get('default_hooks') or {})
    if hooks['logger'] is not None:
        hooks['logger']['interval'] = 1
    if (saving := hooks['checkpoint']) is not None:
        saving.update(interval=1 if saving.get('by_epoch', True) else ITERATIONS, save_begin=0)
    cfg.default_hooks = hooks
    # Every step shows its own losses and not an average.
    cfg.log_processor = {**(cfg.get('log_processor') or {}), 'window_size': 1}


def _pin_scheduler_ends(cfg: Config, by_epoch: bool) -> None:
    """Write down where parameter schedulers end, which may not be with the shorter training."""
    length = cfg.train_cfg.get('max_epochs' if by_epoch else 'max_iters')
    for part in dicts_in(cfg.get('param_scheduler')):
        if 'type' in part:
            same_unit = part.get('by_epoch', True) == by_epoch
            part.setdefault('end', length if same_unit else _NO_END)


def _distil_from_the_start(cfg: Config) -> None:
    """Remove the ``begin`` of the distillation, which is later than the smoke run ends."""
    for hook in cfg.get('custom_hooks') or ():
        if type_name(hook) == 'DistillationScheduleHook':
            for part in (hook, *(hook.get('pairs') or {}).values()):
                part.pop('begin', None)


def _leave_mixed_precision(cfg: Config) -> None:
    """Train in single precision: mmengine trains in mixed precision on a GPU only."""
    wrapper = cfg.optim_wrapper
    if type_name(wrapper) == 'AmpOptimWrapper':
        wrapper.type = 'OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)
