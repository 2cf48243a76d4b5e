"""A validation split that is a part of the training data."""

import copy
import inspect
from typing import Any, Dict

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, TRANSFORMS

from mmdiffkd.errors import ConfigError
from mmdiffkd.models.configs import datasets_in, dicts_in, type_name

_EVERY = 5


def part_of(dataset: Dict, held_out: bool) -> BaseDataset:
    """A data set without a random fifth of its entries, or that fifth alone.

    The fifth is always the same. Configs name this function by its path.

    Args:
        dataset: Config of the data set.
        held_out: Whether to return the fifth.
    """
    built = DATASETS.build(dataset)
    if not isinstance(built, BaseDataset):
        raise ConfigError(f'--weights: {dataset["type"]!r} is no BaseDataset that can be split')
    order = np.random.RandomState(0).permutation(len(built))
    number = max(1, len(built) // _EVERY)
    kept = order[:number] if held_out else order[number:]
    built.get_subset_(np.sort(kept).tolist())
    return built


def hold_out(cfg: Config) -> None:
    """Train on four fifths of a config's training data and validate on the rest, in place.

    The rest goes through the pipeline of the validation, and is evaluated like it.
    """
    kind = f'{__name__}.{part_of.__name__}'
    pipeline = next(datasets_in(cfg.val_dataloader.dataset, ''))[1].pipeline
    parts = []
    for _, dataset in [*datasets_in(cfg.train_dataloader.dataset, '')]:
        whole = copy.deepcopy(dict(dataset))
        parts.append(dict(type=kind, held_out=True, dataset=dict(whole, pipeline=pipeline)))
        dataset.clear()
        dataset.update(type=kind, held_out=False, dataset=whole)
    many = dict(type='ConcatDataset', datasets=parts)
    cfg.val_dataloader.dataset = parts[0] if len(parts) == 1 else many
    for metric in dicts_in(cfg.val_evaluator):
        if metric.get('ann_file') is not None:
            _take_annotations_from_samples(metric, pipeline)


def _take_annotations_from_samples(metric: Dict, pipeline: Any) -> None:
    """Let a metric do without the file of annotations, which is that of other images."""
    if type_name(metric) != 'CocoMetric':
        raise ConfigError(f'--weights: {metric["type"]} needs a file of annotations, val_evaluator')
    metric['ann_file'] = None
    packing = next(part for part in pipeline if type_name(part) == 'PackDetInputs')
    usual = inspect.signature(TRANSFORMS.get('mmdet.PackDetInputs')).parameters['meta_keys'].default
    keys = packing.get('meta_keys', usual)
    packing['meta_keys'] = (*keys, 'instances') if 'instances' not in keys else keys
