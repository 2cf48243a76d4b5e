"""Reading checkpoints as data: nothing in a file runs unless the user trusts it."""

import os
import pickle
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple, Union

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_http, load_from_local
from safetensors import SafetensorError
from safetensors.torch import load_file as load_safetensors
from torch.serialization import get_safe_globals, get_unsafe_globals_in_checkpoint, safe_globals

from mmdiffkd.checkpoints.download import fetch
from mmdiffkd.errors import CheckpointError, describe

OPT_OUT = 'give --trust-checkpoint, or set trust_checkpoint=True in the config'
"""How the user of a run says that its checkpoints are trusted."""

_FORCE_WEIGHTS_ONLY = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
_FORCE_ANYTHING = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
_SCHEMES = {'': load_from_local, 'http://': load_from_http, 'https://': load_from_http}
_DAMAGED = (RuntimeError, EOFError, ValueError, LookupError, SafetensorError)


class _History(HistoryBuffer):
    """Stands in for ``HistoryBuffer`` in a pickle: the numbers are read, its functions are not."""

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__class__ = HistoryBuffer
        logs, counts = np.asarray(state['_log_history']), np.asarray(state['_count_history'])
        self.__init__(logs, counts, int(state['max_length']))


class _OneCycle:
    """Stands in for ``OneCycleParamScheduler``, whose state refers to its annealing functions."""


def _method(owner: Any, name: str) -> Any:
    """Stand in for ``getattr`` in a pickle, from which real attributes lead to all of Python."""
    if owner is _History:
        return None
    if owner is _OneCycle and name in ('_annealing_cos', '_annealing_linear'):
        return getattr(OneCycleParamScheduler, name)
    raise pickle.UnpicklingError(f'attribute {name!r} of {owner!r}')


def _allowed_globals() -> List[Tuple[Callable, str]]:
    """What a pickle of mmengine refers to beside tensors, each with its full name."""
    dtypes = [type(np.dtype(kind)) for kind in '?bBhHiIlLefd']
    stand_ins = {cls: cls for cls in (np.ndarray, np.dtype, *dtypes)}
    stand_ins |= {HistoryBuffer: _History, OneCycleParamScheduler: _OneCycle}
    allowed = [(it, f'{cls.__module__}.{cls.__qualname__}') for cls, it in stand_ins.items()]
    # The functions that NumPy's own pickles call; NumPy 1 and 2 have other names for them.
    for function in (np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]):
        names = [f'numpy.{core}.multiarray.{function.__name__}' for core in ('core', '_core')]
        allowed += [(function, name) for name in names]
    return [*allowed, (_method, 'builtins.getattr')]


@contextmanager
def _torch_load_set(trust: bool) -> Iterator[None]:
    """Have every ``torch.load`` in the block read weights only, or with ``trust`` anything."""
    before = {name: os.environ.pop(name, None) for name in (_FORCE_WEIGHTS_ONLY, _FORCE_ANYTHING)}
    os.environ[_FORCE_ANYTHING if trust else _FORCE_WEIGHTS_ONLY] = '1'
    known = get_safe_globals()
    try:
        with safe_globals([item for item in _allowed_globals() if item not in known]):
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def weights_only(trust: bool = False, opt_out: str = OPT_OUT) -> Iterator[None]:
    """Read checkpoints in the block as data, whichever library reads them.

    Every ``torch.load`` refuses what could run code, whatever its caller asks for. Paths and URLs
    that mmengine is given are read with :func:`load_file`. Arguments are those of it.

    Raises:
        CheckpointError: If a file is refused.
    """

    def load_from_checked(filename: str, map_location: Any = None) -> Dict:
        checkpoint = load_file(fetch(filename), trust, opt_out, map_location)
        if not trust and isinstance(checkpoint.get('meta'), dict):
            # mmengine would run this text as Python on resuming. It writes `cfg` instead.
            checkpoint['meta'].pop('config', None)
        return checkpoint

    for scheme in _SCHEMES:
        CheckpointLoader.register_scheme(scheme, load_from_checked, force=True)
    try:
        with _torch_load_set(trust):
            yield
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal('a checkpoint', [], opt_out)) from error
    finally:
        for scheme, loader in _SCHEMES.items():
            CheckpointLoader.register_scheme(scheme, loader, force=True)


def load_file(
    path: Union[str, Path],
    trust: bool = False,
    opt_out: str = 'set trust=True',
    map_location: Any = 'cpu',
) -> Dict:
    """Read a checkpoint file without running code from it.

    Args:
        path: A local file of torch, or a ``.safetensors`` file.
        trust: Whether the file may run code.
        opt_out: The advice on how to set ``trust``, for the error.
        map_location: The device of the tensors, as in ``torch.load``.

    Raises:
        CheckpointError: If there is no such file, it is damaged or no checkpoint, or it holds
            objects other than tensors, plain values, NumPy arrays and mmengine's training log.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f'checkpoint: no file {str(path)!r} (looked from {Path.cwd()})')
    name, checkpoint = f'checkpoint {str(path)!r}', None
    with _torch_load_set(trust):
        try:
            if path.suffix == '.safetensors':
                return load_safetensors(path, str(map_location or 'cpu'))
            checkpoint = torch.load(path, map_location, weights_only=not trust)
        except pickle.UnpicklingError as error:
            raise CheckpointError(_refusal(name, _unsafe_names(path), opt_out)) from error
        except _DAMAGED as error:
            raise CheckpointError(
                f'{name} cannot be read, it is incomplete, damaged or no checkpoint: '
                f'{describe(error)}'
            ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f'{name} holds no weights but a {type(checkpoint).__name__}')
    return checkpoint


def _unsafe_names(path: Path) -> List[str]:
    try:
        return get_unsafe_globals_in_checkpoint(path)
    except (pickle.UnpicklingError, *_DAMAGED):
        return []


def _refusal(what: str, names: List[str], opt_out: str) -> str:
    doubt, which = ('', f' ({", ".join(sorted(names))})') if names else ('is damaged or ', '')
    return (
        f'{what} was not read, because it {doubt}holds more than weights, which could run '
        f'code{which}. If you trust its source, {opt_out}'
    )
