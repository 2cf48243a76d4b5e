"""Reading checkpoints as data: tensors, plain values and training logs, nothing that runs."""

import os
import pickle
import re
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Tuple, Union

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler
from torch.serialization import add_safe_globals, clear_safe_globals, get_safe_globals

from mmdiffkd.errors import CheckpointError

# The function itself, whatever a run puts in its place.
_torch_load = torch.load

_SAFETENSORS = '.safetensors'

# What torch's weights-only unpickler says of something that it will not make.
_REFUSAL = re.compile(r'GLOBAL ([\w.]+)|Trying to call|Can only|Cannot use ..?weights_only=True')


class _History(HistoryBuffer):
    """What a pickled ``HistoryBuffer`` is read as: its numbers, without its functions."""

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__class__ = HistoryBuffer
        self.__init__(max_length=int(state['max_length']))
        self._log_history = np.asarray(state['_log_history'])
        self._count_history = np.asarray(state['_count_history'])


class _Annealing:
    """Stands in for the scheduler class whose functions ``OneCycleLR`` keeps in its state."""

    _annealing_cos = staticmethod(OneCycleParamScheduler._annealing_cos)
    _annealing_linear = staticmethod(OneCycleParamScheduler._annealing_linear)


_METHODS = {
    _History: ('min', 'max', 'mean', 'current'),
    _Annealing: ('_annealing_cos', '_annealing_linear'),
}


def _method(owner: type, name: str) -> Callable:
    """``getattr`` of a pickle, for the functions that mmengine's checkpoints refer to alone."""
    if name not in _METHODS.get(owner, ()):
        raise pickle.UnpicklingError(f'Can only read known functions, not {name!r} of {owner!r}')
    return getattr(owner, name)


def _allowed_globals() -> Dict[str, Any]:
    """What may be named in a checkpoint beside tensors: that of mmengine's own, by full name."""
    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    kinds = ('?', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8')
    classes = [np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in kinds)]
    allowed = {_full_name(cls): cls for cls in classes}
    # NumPy 1 and 2 name the same functions differently in a pickle.
    for function in (multiarray._reconstruct, multiarray.scalar):
        for core in ('core', '_core'):
            allowed[f'numpy.{core}.multiarray.{function.__name__}'] = function
    allowed[_full_name(HistoryBuffer)] = _History
    allowed[_full_name(OneCycleParamScheduler)] = _Annealing
    allowed['builtins.getattr'] = _method
    return allowed


def _full_name(cls: Callable) -> str:
    return f'{cls.__module__}.{cls.__qualname__}'


@contextmanager
def globals_allowed() -> Iterator[None]:
    """Allow ours, and what the user's code registered with torch, but no second meaning of ours.

    OneDL's mmengine, for one, reads with the real ``getattr``.
    """
    before = get_safe_globals()
    allowed = _allowed_globals()
    others: List[Tuple[Callable, str]] = [
        item if isinstance(item, tuple) else (item, _full_name(item)) for item in before
    ]
    clear_safe_globals()
    try:
        add_safe_globals([(value, name) for name, value in allowed.items()])
        add_safe_globals([item for item in others if item[1] not in allowed])
        yield
    finally:
        clear_safe_globals()
        add_safe_globals(before)


def read_weights(file: Any, opt_out: str, map_location: Any = 'cpu', **arguments: Any) -> Any:
    """As ``torch.load``, but what could run code is refused before it does.

    Args:
        file: A path or a binary file.
        opt_out: How the user says that the file is trusted, for the error.
        map_location: See ``torch.load``.
        **arguments: Others of ``torch.load``.

    Returns:
        What the file holds: tensors, plain values, NumPy arrays of numbers and mmengine's
        training log.

    Raises:
        CheckpointError: If it holds anything else, or cannot be read at all.
        OSError: If the file cannot be opened.
    """
    name = str(file if isinstance(file, (str, os.PathLike)) else getattr(file, 'name', file))
    try:
        if name.endswith(_SAFETENSORS):
            return _read_safetensors(file, map_location)
        with globals_allowed():
            return _torch_load(
                file, map_location=map_location, **{**arguments, 'weights_only': True}
            )
    except (OSError, CheckpointError):
        raise
    except Exception as error:
        # torch raises a dozen kinds of exception here, from UnpicklingError to KeyError.
        text = str(error).strip() or type(error).__name__
        refusal = _REFUSAL.search(text)
        if refusal:
            what = refusal[1] or _shortened(text[refusal.start() :].splitlines()[0])
            raise CheckpointError(
                f'checkpoint {name!r} was not read, because it holds more than weights, which '
                f'could run code: {what}. If you trust its source, {opt_out}'
            ) from error
        raise CheckpointError(
            f'checkpoint {name!r} cannot be read as weights: {_shortened(text.splitlines()[0])}. '
            f'It is incomplete, damaged or no checkpoint'
        ) from error


def read_anything(file: Any, map_location: Any = 'cpu', **arguments: Any) -> Any:
    """As ``torch.load`` of a file whose code may run."""
    if str(file).endswith(_SAFETENSORS):
        return _read_safetensors(file, map_location)
    arguments.setdefault('weights_only', False)
    return _torch_load(file, map_location=map_location, **arguments)


def _read_safetensors(path: Union[str, os.PathLike], map_location: Any) -> Dict[str, Any]:
    """The tensors of a file that holds nothing else."""
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            f'checkpoint {str(path)!r} needs the package safetensors; pip install safetensors'
        ) from error
    return load_file(path, str(map_location or 'cpu'))


def _shortened(text: str, length: int = 200) -> str:
    return text if len(text) <= length else text[: length - 3] + '...'
