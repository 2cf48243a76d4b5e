"""How a run reads checkpoints: as data, verified, and nothing left unsaid.

A run reads files in many ways: ``load_from``, ``--resume``, ``init_cfg=dict(type='Pretrained')``,
``torchvision://`` and ``open-mmlab://`` names, constructors that load their own weights. They all
end in a few functions of mmengine and torch, which are replaced while the run goes on and not
longer.
"""

import logging
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List

import torch
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch import nn

from mmdiffkd.checkpoints.download import fetch, is_url
from mmdiffkd.checkpoints.reading import read_anything, read_weights
from mmdiffkd.checkpoints.weights import listing
from mmdiffkd.errors import CheckpointError

OPT_OUT = 'give --trust-checkpoint, or set trust_checkpoint=True in the config'

_SHAPE_PROBLEM = 'size mismatch for '


@contextmanager
def guarded_loading(trust: bool = False) -> Iterator[None]:
    """Guard all that is loaded inside the ``with`` block, by whatever library.

    - ``torch.load`` refuses what could run code, unless ``trust``.
    - Downloads are verified and whole (:mod:`mmdiffkd.checkpoints.download`).
    - A file that cannot be had or read is one clear :class:`CheckpointError`.
    - Weights that found no place are one warning; if none did, it is an error.

    Args:
        trust: Unpickle whatever the files contain.
    """
    guard = _Guard(trust)
    with ExitStack() as stack:
        for owner, name, function in (
            (torch, 'load', guard.load),
            (CheckpointLoader, 'load_checkpoint', staticmethod(guard.load_checkpoint)),
            (mmengine_checkpoint, '_load_checkpoint_with_prefix', guard.load_with_prefix),
            (mmengine_checkpoint, 'load_from_http', guard.load_from_http),
            (mmengine_checkpoint, 'load_state_dict', guard.load_state_dict),
        ):
            stack.enter_context(_replaced(owner, name, function))
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    # Not by getattr, which would bind a class method.
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class _Guard:
    """The functions that stand in for mmengine's and torch's."""

    def __init__(self, trust: bool) -> None:
        self.trust = trust
        self._load_checkpoint = CheckpointLoader.load_checkpoint
        self._load_with_prefix = mmengine_checkpoint._load_checkpoint_with_prefix
        self._load_state_dict = mmengine_checkpoint.load_state_dict
        self._source = 'a checkpoint'

    def load(self, f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        """For ``torch.load``."""
        if args:
            kwargs['pickle_module'] = args[0]
        if self.trust:
            return read_anything(f, map_location, **kwargs)
        return read_weights(f, OPT_OUT, map_location, **kwargs)

    def load_checkpoint(
        self, filename: str, map_location: Any = None, logger: Any = 'current'
    ) -> Dict:
        """For mmengine's ``CheckpointLoader.load_checkpoint``, which takes all kinds of names."""
        if not isinstance(filename, str):
            raise CheckpointError(
                f'checkpoint must be a path, a URL or a name like torchvision://resnet50, got '
                f'{filename!r} (see load_from, and init_cfg of type Pretrained, in the config)'
            )
        path = str(fetch(filename)) if is_url(filename) else filename
        try:
            checkpoint = self._load_checkpoint(path, map_location, logger)
        except CheckpointError:
            raise
        except FileNotFoundError as error:
            raise CheckpointError(
                f'checkpoint {filename!r} was not found (looked from {Path.cwd()}); the config '
                f'names it in load_from or in an init_cfg, or the command line in --resume'
            ) from error
        except KeyError as error:
            raise CheckpointError(
                f'checkpoint {filename!r}: its library has no weights called {error}'
            ) from error
        except Exception as error:
            raise CheckpointError(f'checkpoint {filename!r} cannot be read: {error}') from error
        if not isinstance(checkpoint, dict):
            raise CheckpointError(
                f'checkpoint {filename!r} holds no weights but a {type(checkpoint).__name__}'
            )
        self._source = f'checkpoint {filename!r}'
        if not self.trust:
            # On resuming, mmengine runs this text as Python. It writes none itself, but `cfg`.
            (checkpoint.get('meta') or {}).pop('config', None)
        return checkpoint

    def load_with_prefix(self, prefix: str, filename: str, map_location: Any = None) -> Dict:
        """For mmengine's function behind an ``init_cfg`` with a prefix."""
        try:
            return self._load_with_prefix(prefix, filename, map_location)
        except AssertionError as error:
            raise CheckpointError(
                f'checkpoint {filename!r} has no weights under the prefix {prefix!r} of an init_cfg'
            ) from error

    def load_from_http(
        self, filename: str, map_location: Any = None, model_dir: Any = None, progress: Any = None
    ) -> Dict:
        """For mmengine's function behind ``torchvision://`` and the like."""
        return torch.load(fetch(filename), map_location=map_location)

    def load_state_dict(
        self, module: nn.Module, state_dict: Dict, strict: bool = False, logger: Any = None
    ) -> None:
        """For mmengine's, which says in many lines what is expected and what is not."""
        if strict:
            self._load_state_dict(module, state_dict, strict, logger)
            return
        missing: List[str] = []
        unexpected: List[str] = []

        def collect(_, keys) -> None:
            for found, seen in ((missing, keys.missing_keys), (unexpected, keys.unexpected_keys)):
                found.extend(seen)
                seen.clear()

        problems = _Collector()
        # The last hook of the outermost module sees what those before it have left.
        handle = _unwrapped(module).register_load_state_dict_post_hook(collect)
        try:
            self._load_state_dict(module, state_dict, strict, problems)
        finally:
            handle.remove()
        missing = [key for key in missing if 'num_batches_tracked' not in key]
        self._report(_unwrapped(module), missing, unexpected, problems.lines)

    def _report(
        self, module: nn.Module, missing: List[str], unexpected: List[str], others: List[str]
    ) -> None:
        name = type(module).__name__
        texts = [
            listing('missing', missing),
            listing('that could not be copied', others),
            listing('in the file that have no place', unexpected),
        ]
        text = '; '.join(text for text in texts if text)
        # By the names of the modules: a distiller's own are those of checkpoints.
        parameters = {key for key, _ in nn.Module.named_parameters(module)}
        if parameters and parameters <= {*missing}:
            raise CheckpointError(
                f'{self._source} has none of the weights of {name}; is it of another model, or '
                f'does init_cfg need another prefix? ({text})'
            )
        if missing or others:
            print_log(
                f'{self._source}: some weights of {name} were not loaded and stay as they were '
                f'initialised: {text}',
                'current',
                logging.WARNING,
            )
        elif unexpected:
            print_log(f'{self._source}: all weights of {name} are loaded, but {text}', 'current')


class _Collector(logging.Logger):
    """Keeps the lines that mmengine logs about weights which could not be copied."""

    def __init__(self) -> None:
        super().__init__('collector')
        self.lines: List[str] = []

    def handle(self, record: logging.LogRecord) -> None:
        """Take the lines after the heading, those about shapes without their details."""
        for line in filter(None, map(str.strip, record.getMessage().splitlines()[1:])):
            is_shape = line.startswith(_SHAPE_PROBLEM)
            self.lines.append(line[len(_SHAPE_PROBLEM) :].partition(':')[0] if is_shape else line)


def _unwrapped(module: nn.Module) -> nn.Module:
    is_wrapped = is_model_wrapper(module) or isinstance(module, BaseTTAModel)
    return module.module if is_wrapped else module
