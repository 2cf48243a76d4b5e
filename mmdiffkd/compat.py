"""The differences between the builds of mmengine and mmcv, and what they lack."""

import functools
import logging
import re
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional, Tuple


def is_installed(library: str) -> bool:
    """Whether a top-level library can be imported. It is not imported for that."""
    # The __main__ of a script or a notebook, where a class may come from, has no spec.
    with suppress(ImportError, ValueError):
        return find_spec(library) is not None
    return False


def installed_config(name: str) -> Path:
    """The file of a config ``library::name`` of an installed library, whether it is there or not.

    mmengine finds the same file, after reading the tables of all published weights of the library.
    """
    library, _, config = name.partition('::')
    (root, *_) = find_spec(library).submodule_search_locations or (library,)
    return Path(root, '.mim', 'configs', config)


def require_torch() -> None:
    """Raise an error if torch is too old.

    The requirements leave the version open, because pip would replace the one that mmcv was
    compiled with.
    """
    with suppress(PackageNotFoundError):
        major, minor = map(int, re.match(r'(\d+)\.(\d+)', version('torch')).groups())
        if (major, minor) < (2, 6):
            raise ImportError(f'mmdiffkd needs torch 2.6 or newer, and this is {version("torch")}')


def apply() -> None:
    """Let configs be inherited by name. Safe to call more than once."""
    if not is_installed('mmengine'):
        return  # mmdiffkd.diffusion is usable with torch alone.
    # This does not import torch, which takes seconds that the command line has not.
    from mmengine.config import Config
    from mmengine.config.utils import MODULE2PACKAGE

    # mmengine looks for the configs of `_base_ = 'mmseg::...'` by the name of a distribution, which
    # differs between upstream and OneDL, or by a module. A source tree is no distribution.
    MODULE2PACKAGE.update(mmseg='mmseg', mmdiffkd=__name__)
    _keep_scopes_of_inherited_configs(Config)


def _keep_scopes_of_inherited_configs(config_class: type) -> None:
    """Let ``mmdiffkd::...`` configs, which name types of other libraries, mean what they say.

    mmengine looks up the types of an inherited ``scope::...`` config in that scope alone. No
    version of it has an option for that.
    """
    find = config_class._get_cfg_path
    if find.__module__ == __name__:
        return

    def get_cfg_path(cfg_path: str, filename: str) -> Tuple[str, Optional[str]]:
        match = re.match(r'(\w+)::', str(cfg_path))
        if not match:
            return find(cfg_path, filename)
        library = match[1]
        if not is_installed(library):
            text = f'{cfg_path!r} needs {library}, which is not installed'
            raise ModuleNotFoundError(text, name=library)
        return str(installed_config(cfg_path)), None if library == 'mmdiffkd' else library

    config_class._get_cfg_path = staticmethod(get_cfg_path)


def apply_to_loops() -> None:
    """Let loops that count iterations start the workers of their data with the first batch.

    Upstream's mmengine up to 0.10.7 starts them when the loop is built, before it is known where a
    resumed run goes on, and uses up the start of an ``InfiniteSampler``. OneDL's does not. Safe to
    call more than once.
    """
    import mmengine
    from mmengine.runner import loops
    from mmengine.utils import digit_version

    eager = loops._InfiniteDataloaderIterator
    is_late = digit_version(mmengine.__version__) > digit_version('0.10.7')
    if is_late or eager.__module__ == __name__:
        return

    class InfiniteDataloaderIterator(eager):
        def __init__(self, dataloader: Iterable) -> None:
            self._dataloader = dataloader
            self._epoch = 0

        @functools.cached_property
        def _iterator(self) -> Iterator:
            return iter(self._dataloader)

    loops._InfiniteDataloaderIterator = InfiniteDataloaderIterator


def missing_operation(model: Any, device: str) -> Optional[str]:
    """An operation of mmcv that a module can call, and that mmcv was built without for its device.

    mmcv raises where it is called, which for NMS is in the first validation.
    """
    ops = sys.modules.get('mmcv.ops')
    if ops is None or device != 'cuda' or ops.get_compiling_cuda_version() != 'not available':
        return None
    for cls in {base for module in model.modules() for base in type(module).__mro__}:
        # mmcv's own layers import more than they call.
        if not cls.__module__.startswith('mmcv.') or cls.__module__.startswith('mmcv.ops.'):
            for name, value in vars(sys.modules[cls.__module__]).items():
                source = str(getattr(value, '__module__', None))
                # Some operations are written in Python alone.
                if source.startswith('mmcv.ops.') and hasattr(sys.modules[source], 'ext_module'):
                    return f'{cls.__name__} calls {name}'
    return None


def apply_to_mlflow() -> None:
    """Let MLflow show pictures by their name and step, as other backends do.

    mmengine gives MLflow the name as that of a file. Without an extension that ends the training,
    and with one each picture overwrites the one before. Safe to call more than once.
    """
    from mmengine.logging import print_log
    from mmengine.visualization import MLflowVisBackend

    def add_image(
        backend: MLflowVisBackend, name: str, image: Any, step: int = 0, **kwargs: Any
    ) -> None:
        mlflow = backend.experiment
        try:
            mlflow.log_image(image, key=name, step=step)
        except mlflow.MlflowException as error:  # as when the server cannot be reached
            print_log(f'MLflow: no picture {name}: {error}', 'current', logging.WARNING)

    MLflowVisBackend.add_image = add_image
