"""Reading checkpoints as data: nothing in a file runs unless the user trusts it."""

import os
import pickle
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

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

# The names of model zoos, such as 'open-mmlab://...', are read by mmengine itself: as weights only,
# but the OneDL builds let them name attributes (their safe globals contain `getattr`).
_SCHEMES = {'': load_from_local, 'http://': load_from_http, 'https://': load_from_http}
_DAMAGED = (RuntimeError, EOFError, ValueError, LookupError, SafetensorError)


class _History(HistoryBuffer):
    """The numbers of a ``HistoryBuffer`` in a pickle, without its functions."""

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__class__ = HistoryBuffer
        logs, counts = np.asarray(state['_log_history']), np.asarray(state['_count_history'])
        self.__init__(logs, counts, int(state['max_length']))


class _OneCycle:
    """Stands in for ``OneCycleParamScheduler``, whose state refers to its annealing functions."""


def _method(owner: Any, name: str) -> Any:
    """Stand in for ``getattr`` in a pickle, from which real attributes lead to all of Python."""
    if owner is _OneCycle and name in ('_annealing_cos', '_annealing_linear'):
        return getattr(OneCycleParamScheduler, name)
    if owner is not _History:
        raise pickle.UnpicklingError(f'attribute {name!r} of {owner!r}')
    return None


def _allowed_globals() -> List[Tuple[Callable, str]]:
    """What a pickle of mmengine refers to beside tensors, each with its full name."""
    classes = [np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in '?bBhHiIlLefd')]
    allowed = [(cls, f'{cls.__module__}.{cls.__name__}') for cls in classes]
    # The functions that NumPy's own pickles call; NumPy 1 and 2 have other names for them.
    for function in (np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]):
        for core in ('core', '_core'):
            allowed.append((function, f'numpy.{core}.multiarray.{function.__name__}'))
    for stand_in, cls in ((_History, HistoryBuffer), (_OneCycle, OneCycleParamScheduler)):
        allowed.append((stand_in, f'{cls.__module__}.{cls.__name__}'))
    return [*allowed, (_method, 'builtins.getattr')]


@contextmanager
def _torch_load_set(trust: bool) -> Iterator[None]:
    """Have every ``torch.load`` in the block read weights only, or with ``trust`` anything."""
    switches = ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')
    before = {name: os.environ.pop(name) for name in switches if name in os.environ}
    os.environ[switches[trust]] = '1'
    known = get_safe_globals()
    try:
        with safe_globals([item for item in _allowed_globals() if item not in known]):
            yield
    finally:
        os.environ.pop(switches[trust], None)
        os.environ.update(before)


@contextmanager
def weights_only(trust: bool = False) -> Iterator[None]:
    """Read checkpoints in the block as data, whichever library reads them.

    Every ``torch.load`` refuses what could run code, whatever its caller asks for, and mmengine
    reads paths and URLs with :func:`load_file`, whose argument ``trust`` is.
    """

    def load_from_checked(filename: str, map_location: Any = None) -> Dict:
        # Read to the CPU; load_state_dict copies to the devices of a model and an optimizer.
        checkpoint = load_file(fetch(filename), trust)
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
        raise CheckpointError(_refusal('a checkpoint', None, OPT_OUT)) from error
    finally:
        for scheme, loader in _SCHEMES.items():
            CheckpointLoader.register_scheme(scheme, loader, force=True)


def load_file(path: Union[str, Path], trust: bool = False, opt_out: str = OPT_OUT) -> Dict:
    """Read a local checkpoint of torch, or a ``.safetensors`` file, without running code from it.

    With ``trust`` the file may run code; ``opt_out`` tells in the error how to set it. Tensors
    are on the CPU.

    Raises:
        CheckpointError: If there is no such file, it is damaged or no checkpoint, or it holds
            objects other than tensors, plain values, NumPy arrays and mmengine's training log.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f'checkpoint: no file {str(path)!r} (looked from {Path.cwd()})')
    name = f'checkpoint {str(path)!r}'
    with _torch_load_set(trust):
        try:
            if path.suffix == '.safetensors':
                return load_safetensors(path)
            checkpoint = torch.load(path, 'cpu', weights_only=not trust)
        except pickle.UnpicklingError as error:
            raise CheckpointError(_refusal(name, path, opt_out)) from error
        except _DAMAGED as error:
            what = 'cannot be read, it is incomplete, damaged or no checkpoint'
            raise CheckpointError(f'{name} {what}: {describe(error)}') from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f'{name} holds no weights but a {type(checkpoint).__name__}')
    return checkpoint


def _refusal(what: str, path: Optional[Path], opt_out: str) -> str:
    doubt, which = 'is damaged or ', ''
    with suppress(pickle.UnpicklingError, *_DAMAGED):
        if path and (names := get_unsafe_globals_in_checkpoint(path)):
            doubt, which = '', f' ({", ".join(sorted(names))})'
    because = f'it {doubt}holds more than weights, which could run code{which}'
    return f'{what} was not read, because {because}. If you trust its source, {opt_out}'
