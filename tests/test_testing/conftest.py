"""Reading a miniature as an unmodified config of a host library does."""

import importlib
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS


@pytest.fixture
def host_config():
    """Load a config that a host library ships."""

    def load(package, name):
        pytest.importorskip('mmcv.ops')
        host = pytest.importorskip(package)
        importlib.import_module(f'{package}.utils').register_all_modules(init_default_scope=True)
        return Config.fromfile(Path(host.__file__).parent / '.mim/configs' / name)

    return load


@pytest.fixture
def read_all():
    """Run the data set of a loader's config through its pipeline; returns it and all samples."""

    def read(loader):
        dataset = DATASETS.build(loader.dataset)
        return dataset, [item['data_samples'] for item in dataset]

    return read
