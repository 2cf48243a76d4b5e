"""Every shipped config runs: the smoke path trains, validates and saves it."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmdiffkd.command_line import METHODS

from .conftest import ROOT

# Trained and looked at in test_hosts.py and, for docs/checkpoints.md, in test_pages.py.
ELSEWHERE = {
    'resnet34_resnet18_imagenet',
    'deeplabv3_r101_pspnet_r18_cityscapes',
    'deeplabv3_r101_deeplabv3_r18_ade20k',
}
CONFIGS = sorted(
    path
    for path in ROOT.glob('configs/*/*.py')
    if path.parent.name != '_base_' and path.stem not in ELSEWHERE
)

HOSTS = dict(
    coco='mmdet', cityscapes='mmseg', ade20k='mmseg',
    imagenet='mmpretrain', cifar100='mmpretrain',
)  # fmt: skip
FEW = {'diffkd/resnet56_resnet20_cifar100'}
# Of each method other than DiffKD the config that takes the least time, and one with the hooks and
# the resized batches of YOLOX; the others are built.
CHEAPEST = {
    'at/resnet32x4_resnet8x4_cifar100', 'crosskd/retinanet_r101_r50_coco', 'cwd/gfl_r101_r50_coco',
    'cwd/yolox-l_yolox-tiny_coco', 'dist/resnet32x4_resnet8x4_cifar100',
    'dkd/resnet32x4_resnet8x4_cifar100',
    'fgd/retinanet_x101_r50_coco', 'kd/resnet32x4_resnet8x4_cifar100', 'ld/gfl_r101_r50_coco',
    'mgd/retinanet_x101_r50_coco', 'pkd/faster-rcnn_r101_r50_coco',
}  # fmt: skip
# Models of a kind that another shipped config or one in docs/your-own-model.md trains.
SIMILAR = {
    'convnext-b_mobilenetv3_imagenet', 'deeplabv3_r101_deeplabv3_r18_cityscapes',
    'deeplabv3_r101_pspnet_r18_ade20k', 'dino_r50_r18_coco', 'dinov2-b_resnet50_imagenet',
    'faster-rcnn_r101_r50_coco', 'mask-rcnn_swin-s_r50_coco', 'mask2former_swin-s_r50_ade20k',
    'resnet50-rsb_resnet34_imagenet', 'retinanet_x101_r50_coco', 'rtmdet-l_rtmdet-tiny_coco',
    'segformer_b2_b0_ade20k', 'swin-l_resnet50_imagenet', 'yolox-l_yolox-tiny_coco',
}  # fmt: skip


def name_of(config):
    return f'{config.parent.name}/{config.stem}'


BUILT = [
    it
    for it in CONFIGS
    if (it.parent.name in METHODS[1:] or it.stem in SIMILAR) and name_of(it) not in CHEAPEST
]
EACH = [
    pytest.param(it, id=name_of(it), marks=[pytest.mark.slow] * (name_of(it) not in FEW))
    for it in CONFIGS
    if it not in BUILT
]
TRAINED = r'(Epoch|Iter)\(train\) .*\b2/2\]'
VALIDATED = TRAINED + r'[^$]*(Epoch|Iter)\(val\)'


@pytest.mark.parametrize('config', EACH)
def test_smoke(config, run_here, tmp_path):
    """It trains and validates, and saves a checkpoint of the student and the heads."""
    pytest.importorskip(HOSTS[re.split('[_-]', config.stem)[-1]])
    cfg = Config.fromfile(config)
    shown = run_here('tools/train.py', config, '--smoke', '--work-dir', tmp_path)
    assert re.search(VALIDATED if cfg.get('val_cfg') is not None else TRAINED, shown)
    (path,) = [path for path in tmp_path.glob('smoke/*_[12].pth') if 'best' not in path.name]
    checkpoint = torch.load(path, weights_only=False)
    assert checkpoint['meta']['iter'] == 2
    weights = checkpoint['state_dict']
    assert all(value.isfinite().all() for value in weights.values())
    pairs = cfg.model.get('pairs', {})
    report = shown.rpartition('The smoke run passed')[2]
    assert all(f'loss_kd_{name} ' in report for name in pairs)
    heads = {name: pair['head']['type'] for name, pair in pairs.items() if pair.get('head')}
    # These go through the teacher's head and have no weights of their own between equal models.
    learned = {name for name, kind in heads.items() if kind not in ('CrossKDHead', 'LDHead')}
    assert {k.split('.')[2] for k in weights if k.startswith('distill.pairs.')} == learned
    assert not [key for key in weights if 'teacher' in key or key.startswith('student')]


@pytest.mark.slow
@pytest.mark.parametrize('config', BUILT, ids=name_of)
def test_build(config):
    """Its modules exist and fit; the pair is tried on a blank image."""
    host = HOSTS[re.split('[_-]', config.stem)[-1]]
    pytest.importorskip(host)
    cfg = Config.fromfile(config)
    init_default_scope(host)
    cfg.model.teacher.checkpoint = 'random'
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    model = MODELS.build(dict(cfg.model, data=cfg.train_dataloader))
    assert model.pairs.keys() == cfg.model.pairs.keys()


def test_verdict(run_here, tmp_path):
    """The terminal ends with what ran, what it cost, what was left out, and how to go on."""
    config = ROOT / 'configs/diffkd/resnet56_resnet20_cifar100.py'
    options = ['--smoke', '--work-dir', tmp_path, '--cfg-options', 'randomness.seed=2', None]
    shown = run_here('tools/train.py', config, *options)
    assert len(shown.splitlines()) <= 40
    _, report = shown.split('The smoke run passed')
    assert 'features: student backbone' in report and 'loss_kd_logits' in report
    assert re.search(r'A step took \S+ s .*, one of the student alone \S+ s', report)
    command = report.split('go on with:')[1]
    assert f'train.py {config}' in command and '--cfg-options randomness.seed=2' in command
    logs = re.findall(r'^  (?:log|picture) +(\S+)$', report, re.MULTILINE)
    assert len(logs) == 3 and all(Path(path).is_file() for path in logs)
    assert 'after_train_iter' in Path(logs[0]).read_text()


def test_a_failure_is_one_line(run_here, tmp_path):
    config = ROOT / 'configs/diffkd/resnet56_resnet20_cifar100.py'
    options = ['--cfg-options', 'default_hooks.checkpoint.save_best=accuracy']
    command = 'tools/train.py', config, '--smoke', '--work-dir', tmp_path, *options
    *_, line = run_here(*command, expect=1).splitlines()
    assert line.startswith('error: the smoke run failed in the validation or the checkpoint: Key')
