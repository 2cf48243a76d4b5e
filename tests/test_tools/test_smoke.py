"""Every shipped config runs: the smoke path trains, validates and saves it."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from .conftest import ROOT

CONFIGS = sorted(path for path in ROOT.glob('configs/*/*.py') if path.parent.name != '_base_')

HOSTS = dict(
    coco='mmdet', cityscapes='mmseg', ade20k='mmseg',
    imagenet='mmpretrain', cifar100='mmpretrain', digits='mmpretrain',
)  # fmt: skip
FEW = {'resnet56_resnet20_cifar100'}
EACH = [
    pytest.param(it, id=it.stem, marks=[pytest.mark.slow] * (it.stem not in FEW)) for it in CONFIGS
]
VALIDATED = re.compile(r'(Epoch|Iter)\(train\) .*\b2/2\][^$]*(Epoch|Iter)\(val\)')


@pytest.mark.parametrize('config', EACH)
def test_smoke(config, run_here, tmp_path):
    """It trains and validates, and saves a checkpoint of the student and the heads."""
    pytest.importorskip(HOSTS[re.split('[_-]', config.stem)[-1]])
    assert VALIDATED.search(run_here('tools/train.py', config, '--smoke', '--work-dir', tmp_path))
    (path,) = [path for path in tmp_path.glob('smoke/*_[12].pth') if 'best' not in path.name]
    checkpoint = torch.load(path, weights_only=False)
    assert checkpoint['meta']['iter'] == 2
    weights = checkpoint['state_dict']
    assert all(value.isfinite().all() for value in weights.values())
    pairs = Config.fromfile(config).model.get('pairs', {})
    has_heads = {name for name, pair in pairs.items() if pair.get('head')}
    assert {k.split('.')[2] for k in weights if k.startswith('distill.pairs.')} == has_heads
    assert not [key for key in weights if 'teacher' in key or key.startswith('student')]


def test_verdict(run_here, tmp_path):
    """The terminal ends with what ran, what it cost, what was left out, and how to go on."""
    config = ROOT / 'configs/diffkd/resnet56_resnet20_cifar100.py'
    options = ['--smoke', '--work-dir', tmp_path, '--cfg-options', 'randomness.seed=2', None]
    shown = run_here('tools/train.py', config, *options)
    assert len(shown.splitlines()) <= 40
    _, report = shown.split('The smoke run passed')
    assert 'features: student backbone' in report and 'loss_kd_logits' in report
    assert re.search(r'A step took \S+ s .*, one of the student alone \S+ s', report)
    command = report.split('Go on with:')[1]
    assert f'train.py {config}' in command and '--cfg-options randomness.seed=2' in command
    logs = re.findall(r'^  (?:log|features) +(\S+)$', report, re.MULTILINE)
    assert len(logs) == 3 and all(Path(path).is_file() for path in logs)
    assert 'after_train_iter' in Path(logs[0]).read_text()
