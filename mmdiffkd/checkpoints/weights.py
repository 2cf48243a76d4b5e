"""Taking a model's weights out of a checkpoint, and loading them into the model."""

import logging
import re
from typing import Any, Dict, Iterable, List

from torch import Tensor, nn

from mmdiffkd.errors import CheckpointError
from mmdiffkd.messages import tell

# The names of all but the student's weights begin with it in a distillation's checkpoint.
DISTILL_PREFIX = 'distill.'


def weights_of(checkpoint: Dict, prefix: str = '') -> Dict[str, Tensor]:
    """The weights of the student or model in a checkpoint, by name.

    They are under ``state_dict`` or ``model``, or are the checkpoint itself. ``module.`` is cut off
    and what a distiller adds is left out. ``prefix`` is the start of the wanted names, or a key of
    the file, or both; it is cut off.
    """
    found = checkpoint
    for key in ('state_dict', 'model'):
        if isinstance(found.get(key), dict):
            found = found[key]
    weights = {str(name).removeprefix('module.'): value for name, value in found.items()}
    for name, value in [*weights.items()]:
        is_weight = isinstance(value, Tensor) or name.endswith('_extra_state')
        if not is_weight or name.startswith(DISTILL_PREFIX):
            del weights[name]
    if prefix:
        start = prefix.rstrip('.') + '.'
        for names in (weights, tensors_in(checkpoint)):
            below = {k[len(start) :]: v for k, v in names.items() if k.startswith(start)}
            if below:
                return {k.removeprefix('module.'): v for k, v in below.items()}
    elif weights:
        return weights
    beginnings = sorted({name.partition('.')[0] for name in weights or tensors_in(checkpoint)})
    below = f'below prefix={prefix!r}' if prefix else '(no state_dict)'
    known = ', '.join(map(repr, beginnings[:8])) or 'nothing'
    raise CheckpointError(f'checkpoint: holds no weights {below}; prefix may be one of: {known}')


def tensors_in(value: Any) -> Dict[str, Tensor]:
    """All tensors in nested dicts, by their keys joined by dots."""
    found = {}
    for key, item in value.items() if isinstance(value, dict) else ():
        if isinstance(item, Tensor):
            found[str(key)] = item
        found.update({f'{key}.{name}': tensor for name, tensor in tensors_in(item).items()})
    return found


def fitting_prefixes(model: nn.Module, names: Iterable[str]) -> List[str]:
    """The prefixes below which ``names`` of tensors have the name of a model's first parameter."""
    first = next((f'.{name}' for name, _ in model.named_parameters()), None)
    return [name[: -len(first)] for name in names if first and name.endswith(first)]


def load_strictly(
    model: nn.Module, weights: Dict[str, Tensor], source: str, ignore_keys: Iterable[str] = ()
) -> None:
    """Load weights into a model; every key must be there, known and of the right shape.

    ``source`` names the weights' origin in errors. ``ignore_keys`` are regular expressions for keys
    that need not fit.
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
    problems, unexpected = [], result.unexpected_keys
    found = dict(
        missing=missing - shapes.keys(), unexpected=unexpected, **{'wrongly shaped': shapes}
    )
    for kind, keys in found.items():
        keys = sorted(k for k in keys if not any(re.search(p, k) for p in ignore_keys))
        if keys:
            problems.append(_listing(kind, [shapes.get(key, key) for key in keys]))
    name = type(model).__name__
    if problems:
        raise CheckpointError(
            f'{source} does not fit {name}; is it of another architecture, or of another number of '
            f'classes? {"; ".join(problems)}. Known exceptions can be named in ignore_keys'
        )
    if own and not own.keys() & fitting.keys():
        raise CheckpointError(f'{source} has none of the weights of {name}; ignore_keys hides it')
    untouched = sorted(missing & {name for name, _ in model.named_parameters()})
    if untouched:
        text = f'{source}: {_listing("weights stay random", untouched)}. ignore_keys allows it'
        tell(text, logging.WARNING)


def _listing(kind: str, keys: List[str]) -> str:
    return f'{len(keys)} {kind}: {", ".join(keys[:2])}{", ..." if len(keys) > 2 else ""}'
