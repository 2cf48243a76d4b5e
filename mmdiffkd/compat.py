"""The differences between mmengine's builds, and what they lack."""

import functools
import re
import sys
from contextlib import suppress
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Iterable, Iterator, Optional, Tuple


def is_installed(library: str) -> bool:
    """Whether a top-level library can be imported. It is not imported for that."""
    # The __main__ of a script or a notebook, where a class may come from, has no spec.
    with suppress(ImportError, ValueError):
        return find_spec(library) is not None
    return False


def apply_with_mmengine() -> None:
    """Call :func:`apply` now, or as soon as mmengine is imported.

    It is not imported for that: mmdiffkd.diffusion is usable with torch alone, and the command line
    answers ``--help`` before the seconds that torch takes.
    """
    if 'mmengine' in sys.modules:
        apply()
    else:
        sys.meta_path.insert(0, _AfterMMEngine())


class _AfterMMEngine:
    """An entry of ``sys.meta_path``: finds mmengine as the others do, and then calls ``apply``."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Optional[ModuleSpec]:
        if name != 'mmengine':
            return None
        found = (f.find_spec(name, path, target) for f in sys.meta_path if f is not self)
        spec = next(filter(None, found), None)
        if spec is not None:
            execute = spec.loader.exec_module

            def execute_and_apply(module: ModuleType) -> None:
                execute(module)
                sys.meta_path.remove(self)
                apply()

            spec.loader.exec_module = execute_and_apply
        return spec


def apply() -> None:
    """Let configs be inherited by name and runs be resumed. Safe to call more than once."""
    import mmengine
    from mmengine.config import Config
    from mmengine.config.utils import MODULE2PACKAGE
    from mmengine.utils import digit_version

    # mmengine looks for the configs of `_base_ = 'mmseg::...'` by the name of a distribution, which
    # differs between upstream and OneDL, or by a module. A source tree is no distribution.
    MODULE2PACKAGE.update(mmseg='mmseg', mmdiffkd=__name__)
    _keep_scopes_of_inherited_configs(Config)
    if digit_version(mmengine.__version__) <= digit_version('0.10.7'):
        _open_data_with_the_first_batch()


def _keep_scopes_of_inherited_configs(config_class: type) -> None:
    """Let ``mmdiffkd::...`` configs, which name types of other libraries, mean what they say.

    mmengine looks up the types of an inherited ``scope::...`` config in that scope alone. No
    version of it has an option for that.
    """
    find = config_class._get_cfg_path
    if find.__module__ == __name__:
        return

    def get_cfg_path(cfg_path: str, filename: str) -> Tuple[str, Optional[str]]:
        library = re.match(r'(\w+)::', str(cfg_path))
        if library and not is_installed(library[1]):
            text = f'{cfg_path!r} needs {library[1]}, which is not installed'
            raise ModuleNotFoundError(text, name=library[1])
        path, scope = find(cfg_path, filename)
        return path, None if scope == 'mmdiffkd' else scope

    config_class._get_cfg_path = staticmethod(get_cfg_path)


def _open_data_with_the_first_batch() -> None:
    """Let loops that count iterations start the workers of their data with the first batch.

    Upstream's mmengine up to 0.10.7 starts them when the loop is built, before it is known where a
    resumed run goes on, and uses up the start of an ``InfiniteSampler``. OneDL's does not.
    """
    from mmengine.runner import loops

    eager = loops._InfiniteDataloaderIterator
    if eager.__module__ == __name__:
        return

    class InfiniteDataloaderIterator(eager):
        def __init__(self, dataloader: Iterable) -> None:
            self._dataloader = dataloader
            self._epoch = 0

        @functools.cached_property
        def _iterator(self) -> Iterator:
            return iter(self._dataloader)

    loops._InfiniteDataloaderIterator = InfiniteDataloaderIterator
