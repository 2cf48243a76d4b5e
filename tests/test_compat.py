"""Configs of this package are inherited by name as they are by path."""

import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.runner import loops
from torch.utils.data import DataLoader

from mmdiffkd import compat

ROOT = Path(__file__).parents[1]

CONFIGS = {
    'diffkd/retinanet_r101_r50_coco.py': 'mmdet',
    'diffkd/deeplabv3_r101_pspnet_r18_ade20k.py': 'mmseg',
    'diffkd/resnet34_resnet18_imagenet.py': 'mmpretrain',
    'teachers/resnet56_cifar100.py': 'mmpretrain',
}


def inherit(base, folder, more=''):
    path = folder / 'mine.py'
    path.write_text(f'_base_ = {base}\n{more}')
    return path


@pytest.mark.parametrize('name', sorted(CONFIGS))
def test_same_by_name_as_by_path(name, tmp_path):
    """In particular no type is looked for in mmdiffkd that is its host's."""
    pytest.importorskip(CONFIGS[name])
    by_name = Config.fromfile(inherit(f"'mmdiffkd::{name}'", tmp_path))
    assert by_name.to_dict() == Config.fromfile(ROOT / 'configs' / name).to_dict()


def test_parts_can_be_changed_and_reused(tmp_path):
    pytest.importorskip('mmdet')
    cfg = Config.fromfile(
        inherit(
            "'mmdiffkd::diffkd/retinanet_r101_r50_coco.py'",
            tmp_path,
            'model = dict(pairs=dict(fpn=dict(loss=dict(loss_weight=2.0))))\n'
            'student_of_another_run = _base_.model.student\n',
        )
    )
    assert cfg.model.pairs.fpn.loss == dict(type='MSELoss', loss_weight=2.0)
    assert cfg.student_of_another_run._scope_ == 'mmdet'


def test_applying_twice_is_applying_once():
    before = Config._get_cfg_path
    compat.apply()
    assert Config._get_cfg_path is before


def test_loops_by_iteration_open_their_data_with_the_first_batch():
    """An iterator that is replaced before must not have used up the sampler."""
    data = list(range(8))
    sampler = InfiniteSampler(data, shuffle=False)
    loader = DataLoader(data, batch_size=2, sampler=sampler, num_workers=1)
    replaced = loops._InfiniteDataloaderIterator(loader)
    del replaced
    iterator = loops._InfiniteDataloaderIterator(loader)
    assert [next(iterator).tolist() for _ in range(5)] == [[0, 1], [2, 3], [4, 5], [6, 7], [0, 1]]


def test_loops_by_iteration_start_a_loader_again(monkeypatch):
    monkeypatch.setattr(loops.time, 'sleep', lambda seconds: None)
    iterator = loops._InfiniteDataloaderIterator([1, 2])
    assert [next(iterator) for _ in range(5)] == [1, 2, 1, 2, 1]


def test_config_that_imports_the_package_itself(tmp_path):
    """For tools of the hosts, which know nothing of mmdiffkd when they read a config."""
    pytest.importorskip('mmdet')
    path = inherit(
        "[__import__('mmdiffkd').__name__ + '::diffkd/retinanet_r101_r50_coco.py']", tmp_path
    )
    code = f'from mmengine.config import Config; print(Config.fromfile({str(path)!r}).model.type)'
    read = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE
    )
    assert read.stdout.splitlines()[-1] == 'mmdiffkd.DiffKDDistiller'
