"""Reading, checking and slimming checkpoint files.

A checkpoint written while distilling holds the student's weights under the student's own names
and everything of the distiller under :data:`DISTILL_PREFIX`.
"""

import re
import sys
from pathlib import Path
from typing import Dict, Iterable, List, Union

import numpy as np
import torch
from mmengine.dist import barrier, get_local_rank
from mmengine.logging import HistoryBuffer, print_log
from torch import Tensor, nn

DISTILL_PREFIX = 'distill.'

_MAX_KEYS_LISTED = 8


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says which, why, and what to do."""


class _Ignored:
    """Stands in for the objects of a training log, which nobody needs to read weights."""

    def __init__(self, *args, **kwargs) -> None:
        pass

    def __setstate__(self, state) -> None:
        pass


def _log_globals() -> List:
    """What mmengine's own checkpoints contain beside tensors, none of it able to run code.

    The message hub keeps NumPy arrays in ``HistoryBuffer`` objects, pickled with references to
    the buffer's methods by way of ``getattr``; both are read as :class:`_Ignored`.
    """
    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    names = [f'{HistoryBuffer.__module__}.{HistoryBuffer.__qualname__}', 'builtins.getattr']
    dtypes = [type(np.dtype(kind)) for kind in (bool, 'i4', 'i8', 'u4', 'u8', 'f4', 'f8')]
    arrays = [multiarray._reconstruct, multiarray.scalar, np.ndarray, np.dtype, *dtypes]
    # NumPy 1 and 2 name the same functions differently in a pickle.
    renamed = [
        (function, f'numpy.{core}.multiarray.{function.__name__}')
        for function in (multiarray._reconstruct, multiarray.scalar)
        for core in ('core', '_core')
    ]
    return [*arrays, *renamed, *((_Ignored, name) for name in names)]


def load_file(path: Union[str, Path], trust: bool = False) -> Dict:
    """Read a checkpoint file without running code from it.

    Args:
        path: A local file.
        trust: Unpickle whatever the file contains. Only for files of your own.

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
        if trust:
            return torch.load(path, map_location='cpu', weights_only=False)
        with torch.serialization.safe_globals(_log_globals()):
            return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        # torch raises a dozen kinds of exception here, from UnpicklingError to KeyError.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f'checkpoint {str(path)!r} cannot be read as weights: {_shorten(reason[0])}. If it '
            f'holds other Python objects and you trust its source, set trust_checkpoint=True'
        ) from error


def _shorten(text: str, length: int = 200) -> str:
    return text if len(text) <= length else text[: length - 3] + '...'


def fetch(location: str) -> Path:
    """A local path for ``location``: itself, or the cached download if it is a URL.

    With several processes the first of each machine downloads and the others wait.
    """
    if not re.match(r'https?://', location):
        return Path(location)
    cached = Path(torch.hub.get_dir()) / 'checkpoints' / location.rsplit('/', 1)[-1]
    if get_local_rank() == 0 and not cached.is_file():
        cached.parent.mkdir(parents=True, exist_ok=True)
        print_log(f'Downloading {location} to {cached}', logger='current')
        try:
            # In a log file the bar would be one line of many kilobytes.
            progress = sys.stderr.isatty()
            torch.hub.download_url_to_file(location, str(cached), progress=progress)
        except OSError as error:
            raise CheckpointError(
                f'checkpoint {location} cannot be downloaded: {error}. Download it elsewhere and '
                f'give its path'
            ) from error
    barrier()
    return cached


def weights_of(checkpoint: Dict) -> Dict[str, Tensor]:
    """The model's weights in a checkpoint, whatever wraps them.

    Args:
        checkpoint: With the weights under ``state_dict`` or ``model``, or the weights
            themselves. ``module.`` prefixes and entries of a distiller are left out.

    Returns:
        Name to tensor.
    """
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
    if not isinstance(checkpoint, dict) or not checkpoint:
        raise CheckpointError('checkpoint: holds no weights (no state_dict)')
    weights = {re.sub(r'^module\.', '', str(name)): value for name, value in checkpoint.items()}
    weights = {
        name: value
        for name, value in weights.items()
        if isinstance(value, Tensor) and not name.startswith(DISTILL_PREFIX)
    }
    if not weights:
        raise CheckpointError('checkpoint: holds no weights (no state_dict)')
    return weights


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
    misshapen = [key for key in weights if key in own and weights[key].shape != own[key].shape]
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
        _listing('missing', sorted(missing)),
        _listing('unexpected', sorted(relevant(result.unexpected_keys))),
        _listing('wrongly shaped', shapes),
    ]
    problems = [problem for problem in problems if problem]
    if problems:
        raise CheckpointError(
            f'{source} does not fit {type(model).__name__}; is it of another architecture, or of '
            f'another number of classes?\n  '
            + '\n  '.join(problems)
            + '\n  Known exceptions can be named in ignore_keys (regular expressions).'
        )


def _listing(kind: str, keys: List[str]) -> str:
    if not keys:
        return ''
    rest = len(keys) - _MAX_KEYS_LISTED
    more = f', and {rest} more' if rest > 0 else ''
    return f'{len(keys)} {kind}: ' + ', '.join(keys[:_MAX_KEYS_LISTED]) + more
