"""Reading, checking and slimming checkpoint files.

A checkpoint written while distilling holds the student's weights under the student's own names
and everything of the distiller under :data:`DISTILL_PREFIX`.
"""

import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterable, List, Union

from mmengine.logging import print_log
from torch import Tensor, nn

from mmdiffkd.checkpoints.reading import read_anything, read_weights
from mmdiffkd.errors import CheckpointError

DISTILL_PREFIX = 'distill.'

_MAX_KEYS_LISTED = 8
# An error is one sentence.
_MAX_KEYS_OF_ERROR = 2


def load_file(path: Union[str, Path], trust: bool = False, opt_out: str = 'set trust=True') -> Dict:
    """Read a checkpoint file without running code from it.

    Args:
        path: A local file.
        trust: Unpickle whatever the file contains. Only for files of your own.
        opt_out: How the user sets ``trust``, for the error.

    Returns:
        The checkpoint, tensors on the CPU.

    Raises:
        CheckpointError: If there is no such file, it is no checkpoint, or it carries objects
            other than tensors, plain containers and mmengine's training log.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f'checkpoint: no file {str(path)!r} (looked from {Path.cwd()})')
    try:
        return read_anything(path) if trust else read_weights(path, opt_out)
    except CheckpointError:
        raise
    except Exception as error:
        # Unpickling what is no pickle, or what needs a library that is not there.
        raise CheckpointError(
            f'checkpoint {str(path)!r} cannot be read: {type(error).__name__}: {error}'
        ) from error


def weights_of(checkpoint: Dict, prefix: str = '') -> Dict[str, Tensor]:
    """The model's weights in a checkpoint, whatever wraps them.

    Args:
        checkpoint: With the weights under ``state_dict`` or ``model``, or the weights
            themselves. ``module.`` prefixes and entries of a distiller are left out.
        prefix: Only the weights below it, without it: a beginning of their names, or the key of
            the file that holds them, or both, joined by a dot.

    Returns:
        Name to tensor.
    """
    found = checkpoint
    for key in ('state_dict', 'model'):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    weights = {
        str(name).removeprefix('module.'): value
        for name, value in (found.items() if isinstance(found, dict) else ())
        if isinstance(value, Tensor) or str(name).endswith('_extra_state')
    }
    weights = {k: v for k, v in weights.items() if not k.startswith(DISTILL_PREFIX)}
    if prefix:
        start = prefix.rstrip('.') + '.'
        for names in (weights, tensors_in(checkpoint)):
            below = {k[len(start) :]: v for k, v in names.items() if k.startswith(start)}
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
    if not isinstance(value, dict):
        return {}
    found = {str(key): item for key, item in value.items() if isinstance(item, Tensor)}
    for key, item in value.items():
        found.update({f'{key}.{name}': tensor for name, tensor in tensors_in(item).items()})
    return found


def fitting_prefixes(model: nn.Module, names: Iterable[str]) -> List[str]:
    """The prefixes below which most of a model's parameters are found by their names.

    Args:
        model: The model.
        names: Of tensors.
    """
    own = {name for name, _ in model.named_parameters()}
    numbers: Counter = Counter()
    for name in names:
        parts = name.split('.')
        places = range(1, len(parts))
        numbers.update('.'.join(parts[:i]) for i in places if '.'.join(parts[i:]) in own)
    return [prefix for prefix, number in numbers.items() if 2 * number > len(own)]


def _beginnings(names: Iterable[str]) -> str:
    """What names begin with, up to their first dots."""
    return ', '.join(
        map(repr, sorted({name.partition('.')[0] for name in names})[:_MAX_KEYS_LISTED])
    )


def load_strictly(
    model: nn.Module, weights: Dict[str, Tensor], source: str, ignore_keys: Iterable[str] = ()
) -> None:
    """Load weights into a model; every key must be there, known and of the right shape.

    Args:
        model: The model to fill.
        weights: Name to tensor.
        source: Where the weights come from, for the error message.
        ignore_keys: Regular expressions; keys in which one is found may be missing, unexpected
            or of another shape.

    Raises:
        CheckpointError: If a key does not fit; the message lists them.
    """
    ignored = [re.compile(pattern) for pattern in ignore_keys]

    def relevant(keys: Iterable[str]) -> List[str]:
        return [key for key in keys if not any(pattern.search(key) for pattern in ignored)]

    own = model.state_dict()
    misshapen = [
        key
        for key, value in weights.items()
        if key in own and isinstance(value, Tensor) and value.shape != own[key].shape
    ]
    fitting = {key: value for key, value in weights.items() if key not in misshapen}
    result = model.load_state_dict(fitting, strict=False)
    shapes = [
        f'{key} {tuple(weights[key].shape)}, model has {tuple(own[key].shape)}'
        for key in relevant(misshapen)
    ]
    missing = relevant(set(result.missing_keys) - set(misshapen))
    # Files from before PyTorch 0.4 lack these counters, which nothing reads in eval mode.
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    problems = [
        listing('missing', sorted(missing), _MAX_KEYS_OF_ERROR),
        listing('unexpected', sorted(relevant(result.unexpected_keys)), _MAX_KEYS_OF_ERROR),
        listing('wrongly shaped', shapes, 1),
    ]
    problems = [problem for problem in problems if problem]
    if problems:
        raise CheckpointError(
            f'{source} does not fit {type(model).__name__}; is it of another architecture, or of '
            f'another number of classes? {"; ".join(problems)}. Known exceptions can be named in '
            f'ignore_keys'
        )
    if own and not own.keys() & fitting.keys():
        raise CheckpointError(
            f'{source} has none of the weights of {type(model).__name__}, and ignore_keys hides '
            f'it; name the known exceptions alone'
        )
    untouched = sorted({*result.missing_keys} & {name for name, _ in model.named_parameters()})
    if untouched:
        print_log(
            f'{source}: {listing("weights stay random", untouched)}. ignore_keys allows it',
            'current',
            logging.WARNING,
        )


def listing(kind: str, keys: List[str], most: int = _MAX_KEYS_LISTED) -> str:
    """Their number, kind and names, of these at most so many; empty if there are none."""
    if not keys:
        return ''
    rest = len(keys) - most
    more = f', and {rest} more' if rest > 0 else ''
    return f'{len(keys)} {kind}: ' + ', '.join(keys[:most]) + more
