"""The one place that knows how mmengine's builds differ, and where they need help."""

import functools
import re
from importlib.util import find_spec
from typing import Any, Iterable, Iterator, Optional, Tuple


def is_installed(library: str) -> bool:
    """Whether a library can be imported; it is not imported for that."""
    try:
        return find_spec(library) is not None
    except ImportError:
        # What stands in the way of imports may say so here.
        return False


def apply() -> None:
    """Mend what keeps configs from being inherited. Safe to call more than once."""
    # mmdiffkd.diffusion is usable with torch alone.
    if not is_installed('mmengine'):
        return
    import mmengine
    from mmengine.config import Config
    from mmengine.config.utils import MODULE2PACKAGE
    from mmengine.utils import digit_version

    # `_base_ = 'mmseg::...'` looks for a distribution of this name. Upstream's is called
    # mmsegmentation, OneDL's onedl-mmsegmentation; mmengine finds both by their module's name.
    MODULE2PACKAGE['mmseg'] = 'mmseg'
    # `_base_ = 'mmdiffkd::...'` is looked up in the package that is running, however it was
    # installed: no distribution has this name, so mmengine asks Python where the module lies.
    MODULE2PACKAGE['mmdiffkd'] = __name__
    _keep_scopes_of_inherited_configs(Config)
    if digit_version(mmengine.__version__) <= digit_version('0.10.7'):
        _let_mmengine_read_its_checkpoints()
        _begin_with_the_data_when_it_is_needed()


def _keep_scopes_of_inherited_configs(config_class: type) -> None:
    """Let `mmdiffkd::...` configs mean what they mean as files.

    mmengine looks up the types of an inherited `scope::...` config in that scope alone. Ours name
    models and data of other libraries, so they are inherited as by their path, without a scope.
    """
    find = config_class._get_cfg_path
    if find.__module__ == __name__:
        return

    def get_cfg_path(cfg_path: str, filename: str) -> Tuple[str, Optional[str]]:
        library = re.match(r'(\w+)::', str(cfg_path))
        if library and not is_installed(library[1]):
            raise ModuleNotFoundError(
                f'{cfg_path!r} needs {library[1]}, which is not installed', name=library[1]
            )
        path, scope = find(cfg_path, filename)
        return path, None if scope == 'mmdiffkd' else scope

    config_class._get_cfg_path = staticmethod(get_cfg_path)


def _let_mmengine_read_its_checkpoints() -> None:
    """Let upstream's mmengine load and resume from what it has saved.

    Since 2.6 torch reads nothing but weights unless it is told what else a file may hold. OneDL's
    mmengine tells it; upstream's last release is older and cannot read its own training log.
    """
    from mmengine.runner import checkpoint

    from mmdiffkd.checkpoints.reading import globals_allowed

    load = checkpoint.load_from_local
    if load.__module__ == __name__:
        return

    def load_from_local(filename: str, map_location: Any) -> Any:
        with globals_allowed():
            return load(filename, map_location)

    checkpoint.load_from_local = load_from_local
    # A path is what has no prefix.
    checkpoint.CheckpointLoader.register_scheme('', load_from_local, force=True)


def _begin_with_the_data_when_it_is_needed() -> None:
    """Let loops that count iterations open their data with the first batch, as OneDL's do.

    Upstream's start the workers when the loop is built, before it is known where a resumed run goes
    on. Whoever replaces the iterator then would end the stream of an ``InfiniteSampler``, which is
    one for all iterators of a data loader.
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
