"""What the libraries' model indexes say of a config's published weights."""

from typing import Any, Dict, Iterator, NamedTuple

from mmengine.config.utils import _get_cfg_metainfo, _get_package_and_cfg_path
from mmengine.utils import get_installed_path


class PublishedResult(NamedTuple):
    """A metric that a library measured with the weights it publishes.

    Attributes:
        value: In percent.
        name: As the index calls it.
        dataset: Likewise.
    """

    value: float
    name: str
    dataset: str


# Metrics of the indexes, all in percent -> what a validation calls them, and its percent.
_VALIDATED_AS = {
    'box AP': {'coco/bbox_mAP': 100, 'pascal_voc/mAP': 100, 'lvis/bbox_AP': 100},
    'mask AP': {'coco/segm_mAP': 100, 'lvis/segm_AP': 100},
    'PQ': {'coco_panoptic/PQ': 1},
    'mIoU': {'mIoU': 1},
    'Top 1 Accuracy': {'accuracy/top1': 1},
    'Top 5 Accuracy': {'accuracy/top5': 1},
}

GUESSED_AMONG_CLASSES = ('accuracy/top1', 'mIoU')
"""Metrics of a validation that a guess among n classes gives about one n-th of."""


def validated_metrics() -> Iterator[str]:
    """The metrics of validations that :func:`in_percent` knows, without that of five guesses."""
    return (key for keys in _VALIDATED_AS.values() for key in keys if key != 'accuracy/top5')


def published_results(config: Any) -> Dict[str, PublishedResult]:
    """The published results of a config, by the name of the metric in a validation.

    Args:
        config: As in ``teacher.config``; only a ``library::name`` can have results.

    Returns:
        Empty if there are none.
    """
    if not isinstance(config, str) or '::' not in config:
        return {}
    package, path = _get_package_and_cfg_path(config)
    try:
        entry = _get_cfg_metainfo(get_installed_path(package), path)
    except ValueError:
        # The index does not list it.
        return {}
    results = entry.get('Results') or []
    found = {}
    for result in [results] if isinstance(results, dict) else results:
        for name, value in (result.get('Metrics') or {}).items():
            if isinstance(value, (int, float)):
                for key in _VALIDATED_AS.get(name, ()):
                    found.setdefault(key, PublishedResult(value, name, result.get('Dataset', '')))
    return found


def in_percent(key: str, value: float) -> float:
    """A validation's metric as the indexes write it.

    Args:
        key: One of those of :func:`published_results`.
        value: What the validation yielded.
    """
    (factor,) = (keys[key] for keys in _VALIDATED_AS.values() if key in keys)
    return value * factor
