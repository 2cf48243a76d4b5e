"""Configs of this package are inherited by name, and upstream's loops open their data late."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.runner import loops
from torch.utils.data import DataLoader

import mmdiffkd.registry  # noqa: F401 (as a config with a type of ours does)
from mmdiffkd import compat

ROOT = Path(__file__).parents[1]

CONFIGS = {
    'diffkd/retinanet_r101_r50_coco.py': 'mmdet',
    'diffkd/deeplabv3_r101_pspnet_r18_ade20k.py': 'mmseg',
    'teachers/resnet56_cifar100.py': 'mmpretrain',
}


@pytest.mark.parametrize('name', sorted(CONFIGS))
def test_same_by_name_as_by_path(name, tmp_path):
    """In particular no type is looked for in mmdiffkd that is its host's."""
    pytest.importorskip(CONFIGS[name])
    (tmp_path / 'mine.py').write_text(f"_base_ = 'mmdiffkd::{name}'")
    by_name = Config.fromfile(tmp_path / 'mine.py')
    assert by_name.to_dict() == Config.fromfile(ROOT / 'configs' / name).to_dict()


def test_loops_by_iteration_open_their_data_with_the_first_batch():
    """An iterator that is replaced before must not have used up the sampler."""
    data = list(range(8))
    sampler = InfiniteSampler(data, shuffle=False)
    loader = DataLoader(data, batch_size=2, sampler=sampler, num_workers=1)
    replaced = loops._InfiniteDataloaderIterator(loader)
    del replaced
    iterator = loops._InfiniteDataloaderIterator(loader)
    assert [next(iterator).tolist() for _ in range(5)] == [[0, 1], [2, 3], [4, 5], [6, 7], [0, 1]]


def test_old_torch(monkeypatch):
    monkeypatch.setattr(compat, 'version', lambda name: '2.10.0a0+git')
    compat.require_torch()
    monkeypatch.setattr(compat, 'version', lambda name: '2.5.1+cu124')
    with pytest.raises(ImportError, match=r'needs torch 2.6 or newer, and this is 2.5.1\+cu124'):
        compat.require_torch()
