"""Every shipped config runs: the smoke path trains, validates and saves it."""

import re

import pytest
import torch
from mmengine.config import Config

from .conftest import ROOT

CONFIGS = sorted(path for path in ROOT.glob('configs/*/*.py') if path.parent.name != '_base_')

HOSTS = dict(
    coco='mmdet', cityscapes='mmseg', ade20k='mmseg',
    imagenet='mmpretrain', cifar100='mmpretrain', digits='mmpretrain',
)  # fmt: skip


slow = pytest.mark.slow
FEW = {'retinanet_r101_r50_coco', 'resnet56_resnet20_cifar100'}


def check_smoke(config, output, work_dir):
    """A smoke run trained, validated, and saved a checkpoint of the student and the heads."""
    assert re.search(r'(Epoch|Iter)\(train\) .*\b2/2\]', output)
    assert re.search(r'(Epoch|Iter)\(val\)', output)
    (path,) = [path for path in (work_dir / 'smoke').glob('*_[12].pth') if 'best' not in path.name]
    checkpoint = torch.load(path, weights_only=False)
    assert checkpoint['meta']['iter'] == 2
    weights = checkpoint['state_dict']
    assert all(value.isfinite().all() for value in weights.values())
    pairs = Config.fromfile(config).model.get('pairs', {})
    has_heads = {name for name, pair in pairs.items() if pair.get('head')}
    assert {k.split('.')[2] for k in weights if k.startswith('distill.pairs.')} == has_heads
    assert not [key for key in weights if 'teacher' in key or key.startswith('student')]


@pytest.mark.parametrize(
    'config',
    [
        pytest.param(
            path, id=f'{path.parent.name}/{path.stem}', marks=() if path.stem in FEW else slow
        )
        for path in CONFIGS
    ],
)
def test_smoke(config, run_here, tmp_path):
    pytest.importorskip(HOSTS[re.split('[_-]', config.stem)[-1]])
    output = run_here('tools/train.py', config, '--smoke', '--work-dir', tmp_path)
    check_smoke(config, output, tmp_path)


@slow
@pytest.mark.parametrize(
    ('name', 'switches'),
    [
        ('cascade-mask-rcnn_x101_faster-rcnn_r50_coco', []),  # teacher_inputs
        ('deeplabv3_r101_pspnet_r18_cityscapes', []),  # SyncBN does not ask for a GPU
        (
            'resnet56_resnet20_cifar100',  # DDP sees what backward computes again only once
            [
                'model.teacher.precision=bf16',
                'model.pairs.features.head.checkpoint=True',
                'model.pairs.logits.head.checkpoint=True',
            ],
        ),
    ],
)
def test_two_processes(name, switches, run, tmp_path):
    """DDP finds no unused parameter."""
    pytest.importorskip(HOSTS[re.split('[_-]', name)[-1]])
    config = ROOT / 'configs' / 'diffkd' / f'{name}.py'
    options = ['--cfg-options', *switches] if switches else []
    output = run('tools/dist_train.sh', config, 2, '--smoke', '--work-dir', tmp_path, *options)
    assert re.search(r'(Epoch|Iter)\(train\) .*\b2/2\]', output)
    asks_for_it = 'SyncBN' in Config.fromfile(config).pretty_text
    assert output.count('Batch norms use the statistics of each process') == asks_for_it


def test_data_set_without_a_miniature_is_named(run_here, tmp_path, write_config):
    config = write_config(more="train_dataloader.update(dataset=dict(type='VOCDataset'))")
    output = run_here('tools/train.py', config, '--smoke', '--work-dir', tmp_path, expect=1)
    assert "no miniature of 'VOCDataset'" in output


def test_a_user_s_own_data_set(run_here, tmp_path, write_config):
    """Another layout and other classes; nothing is downloaded."""
    loader = (
        "dict(dataset=dict(data_root='nowhere/', ann_file='{0}/labels.json', "
        "metainfo=dict(classes=('cat', 'dog', 'owl', 'fox', 'hen')), data_prefix=dict(img='{0}/')))"
    )
    config = write_config(
        more=f'train_dataloader = {loader.format("train")}\n'
        f'val_dataloader = {loader.format("val")}\n'
        "val_evaluator = dict(ann_file='nowhere/val/labels.json')\n"
        'test_dataloader, test_evaluator = val_dataloader, val_evaluator\n'
    )
    output = run_here('tools/train.py', config, '--smoke', '--work-dir', tmp_path)
    assert 'Epoch(val) [1]' in output


def test_a_student_given_by_name(run_here, tmp_path):
    base = ROOT / 'configs' / 'diffkd' / 'retinanet_r101_r50_coco.py'
    name = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
    output = run_here(
        'tools/train.py', base, '--smoke', '--work-dir', tmp_path,
        '--cfg-options', f'model.student={name}',
    )  # fmt: skip
    assert 'Epoch(val) [1]' in output
