"""Taking a model's weights out of a checkpoint, and loading them into the model."""

import logging
import re
from collections import Counter
from typing import Any, Dict, Iterable, List

from mmengine.logging import print_log
from torch import Tensor, nn

from mmdiffkd.errors import CheckpointError

DISTILL_PREFIX = 'distill.'
"""What the names of all but the student's weights begin with in a distillation's checkpoint."""


def weights_of(checkpoint: Dict, prefix: str = '') -> Dict[str, Tensor]:
    """The model's weights in a checkpoint, by name.

    Args:
        checkpoint: A dict with the weights under ``state_dict`` or ``model``, or the weights
            themselves. ``module.`` prefixes and entries of a distiller are left out.
        prefix: The start of the wanted names, or a key of the file, or both. It is cut off.

    Raises:
        CheckpointError: If there are no weights, or none below the prefix.
    """
    found = checkpoint
    for key in ('state_dict', 'model'):
        if isinstance(found.get(key), dict):
            found = found[key]
    weights = {
        str(name).removeprefix('module.'): value
        for name, value in found.items()
        if isinstance(value, Tensor) or str(name).endswith('_extra_state')
    }
    weights = {k: v for k, v in weights.items() if not k.startswith(DISTILL_PREFIX)}
    if prefix:
        start = prefix.rstrip('.') + '.'
        for names in (weights, tensors_in(checkpoint)):
            below = {k.removeprefix(start): v for k, v in names.items() if k.startswith(start)}
            if below:
                return {k.removeprefix('module.'): v for k, v in below.items()}
        raise CheckpointError(
            f'checkpoint: holds no weights below prefix={prefix!r}; there are '
            f'{_beginnings(weights or tensors_in(checkpoint))}'
        )
    if not weights:
        nested = tensors_in(found)
        but = f', but some below {_beginnings(nested)}; say which with prefix' if nested else ''
        raise CheckpointError(f'checkpoint: holds no weights (no state_dict){but}')
    return weights


def tensors_in(value: Any) -> Dict[str, Tensor]:
    """All tensors in nested dicts, by their keys joined by dots."""
    found = {}
    for key, item in value.items() if isinstance(value, dict) else ():
        if isinstance(item, Tensor):
            found[str(key)] = item
        found.update({f'{key}.{name}': tensor for name, tensor in tensors_in(item).items()})
    return found


def fitting_prefixes(model: nn.Module, names: Iterable[str]) -> List[str]:
    """The prefixes below which ``names`` of tensors have most of a model's parameters."""
    own = {name for name, _ in model.named_parameters()}
    numbers: Counter = Counter()
    for name in names:
        parts = name.split('.')
        places = range(1, len(parts))
        numbers.update('.'.join(parts[:i]) for i in places if '.'.join(parts[i:]) in own)
    return [prefix for prefix, number in numbers.items() if 2 * number > len(own)]


def _beginnings(names: Iterable[str]) -> str:
    """The parts of names before their first dots."""
    return ', '.join(map(repr, sorted({name.partition('.')[0] for name in names})[:8]))


def load_strictly(
    model: nn.Module, weights: Dict[str, Tensor], source: str, ignore_keys: Iterable[str] = ()
) -> None:
    """Load weights into a model; every key must be there, known and of the right shape.

    Args:
        model: The model to fill.
        weights: Tensors by name.
        source: The origin of the weights, for the error.
        ignore_keys: Regular expressions for keys that need not fit.

    Raises:
        CheckpointError: If a key does not fit; the message lists the first ones.
    """
    own = model.state_dict()
    # Extra state, which torch keeps among the weights, has no shape.
    shapes = {
        key: f'{key} {tuple(value.shape)}, model has {tuple(own[key].shape)}'
        for key, value in weights.items()
        if isinstance(value, Tensor) and key in own and value.shape != own[key].shape
    }
    fitting = {key: value for key, value in weights.items() if key not in shapes}
    result = model.load_state_dict(fitting, strict=False)
    # Files from before PyTorch 0.4 lack these counters, which nothing reads in eval mode.
    missing = {key for key in result.missing_keys if not key.endswith('num_batches_tracked')}

    def relevant(keys: Iterable[str]) -> List[str]:
        return sorted(k for k in keys if not any(re.search(p, k) for p in ignore_keys))

    problems = [
        listing('missing', relevant(missing - shapes.keys()), 2),
        listing('unexpected', relevant(result.unexpected_keys), 2),
        listing('wrongly shaped', [shapes[key] for key in relevant(shapes)], 1),
    ]
    if any(problems):
        raise CheckpointError(
            f'{source} does not fit {type(model).__name__}; is it of another architecture, or of '
            f'another number of classes? {"; ".join(filter(None, problems))}. Known exceptions can '
            f'be named in ignore_keys'
        )
    if own and not own.keys() & fitting.keys():
        raise CheckpointError(
            f'{source} has none of the weights of {type(model).__name__}, and ignore_keys hides '
            f'it; name the known exceptions alone'
        )
    untouched = sorted(missing & {name for name, _ in model.named_parameters()})
    if untouched:
        text = f'{source}: {listing("weights stay random", untouched)}. ignore_keys allows it'
        print_log(text, 'current', logging.WARNING)


def listing(kind: str, keys: List[str], most: int = 8) -> str:
    """The number, the kind and the first names of ``keys``; empty if there are none."""
    if not keys:
        return ''
    more = f', and {len(keys) - most} more' if len(keys) > most else ''
    return f'{len(keys)} {kind}: ' + ', '.join(keys[:most]) + more
