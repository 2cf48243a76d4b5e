"""Every shipped config runs: the smoke path trains, validates and saves it."""

import re
import time

import pytest
import torch
from mmengine.config import Config

from tests.conftest import SECONDS

from .conftest import ROOT

CONFIGS = sorted(path for path in ROOT.glob('configs/*/*.py') if path.parent.name != '_base_')

EXPERIMENTS = {
    'retinanet_r101_r50_coco',
    'faster-rcnn_r101_r50_coco',
    'fcos_r101_r50_coco',
    'cascade-mask-rcnn_x101_faster-rcnn_r50_coco',
    'retinanet_x101_r50_coco',
    'reppoints_x101_r50_coco',
    'deeplabv3_r101_deeplabv3_r18_cityscapes',
    'deeplabv3_r101_pspnet_r18_cityscapes',
    'deeplabv3_r101_deeplabv3_mbv2_cityscapes',
    'deeplabv3_r101_deeplabv3_r18_ade20k',
    'deeplabv3_r101_pspnet_r18_ade20k',
    'resnet34_resnet18_imagenet',
    'resnet50_mobilenetv1_imagenet',
    'resnet50-rsb_resnet34_imagenet',
    'resnet50-rsb_mobilenetv2_imagenet',
    'resnet50-rsb_efficientnet-b0_imagenet',
    'swin-l_resnet50_imagenet',
    'swin-l_swin-t_imagenet',
    'wrn40-2_wrn40-1_cifar100',
    'resnet56_resnet20_cifar100',
    'resnet32x4_resnet8x4_cifar100',
    'resnet50_mobilenetv2_cifar100',
    'resnet32x4_shufflenetv1_cifar100',
    'resnet32x4_shufflenetv2_cifar100',
}

HOSTS = dict(
    coco='mmdet', cityscapes='mmseg', ade20k='mmseg',
    imagenet='mmpretrain', cifar100='mmpretrain', digits='mmpretrain',
)  # fmt: skip


def test_every_experiment_has_a_config():
    assert {path.stem for path in CONFIGS if path.parent.name == 'diffkd'} == EXPERIMENTS


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_smoke(config, run, tmp_path, record_property):
    """Trains, validates and saves; how long each took is printed at the end of the tests."""
    pytest.importorskip(HOSTS[re.split('[_-]', config.stem)[-1]])
    start = time.monotonic()
    output = run('tools/train.py', config, '--smoke', '--work-dir', tmp_path)
    record_property(SECONDS, round(time.monotonic() - start, 1))
    assert re.search(r'(Epoch|Iter)\(train\) .*\b2/2\]', output)
    assert re.search(r'(Epoch|Iter)\(val\)', output)
    (path,) = [path for path in (tmp_path / 'smoke').glob('*_[12].pth') if 'best' not in path.name]
    checkpoint = torch.load(path, weights_only=False)
    assert checkpoint['meta']['iter'] == 2
    weights = checkpoint['state_dict']
    assert all(value.isfinite().all() for value in weights.values())
    pairs = Config.fromfile(config).model.get('pairs', {})
    has_heads = {name for name, pair in pairs.items() if pair.get('head')}
    assert {k.split('.')[2] for k in weights if k.startswith('distill.pairs.')} == has_heads
    assert not [key for key in weights if 'teacher' in key or key.startswith('student')]


@pytest.mark.parametrize(
    'name',
    [
        'cascade-mask-rcnn_x101_faster-rcnn_r50_coco',  # teacher_inputs
        'deeplabv3_r101_pspnet_r18_cityscapes',  # SyncBN
        'resnet56_resnet20_cifar100',
    ],
)
def test_two_processes(name, run, tmp_path):
    """DDP finds no unused parameter, and SyncBN does not ask for a GPU."""
    pytest.importorskip(HOSTS[re.split('[_-]', name)[-1]])
    config = ROOT / 'configs' / 'diffkd' / f'{name}.py'
    output = run('tools/dist_train.sh', config, 2, '--smoke', '--work-dir', tmp_path)
    assert re.search(r'(Epoch|Iter)\(train\) .*\b2/2\]', output)
    asks_for_it = 'SyncBN' in Config.fromfile(config).pretty_text
    assert output.count('Batch norms use the statistics of each process') == asks_for_it


def test_two_processes_with_all_switches(run, tmp_path):
    """What heads compute again in backward reaches DDP's reducer once."""
    pytest.importorskip('mmpretrain')
    config = ROOT / 'configs' / 'diffkd' / 'resnet56_resnet20_cifar100.py'
    switches = [
        'model.teacher.precision=bf16',
        'model.pairs.features.head.checkpoint=True',
        'model.pairs.logits.head.checkpoint=True',
    ]
    command = ['tools/dist_train.sh', config, 2, '--smoke', '--work-dir', tmp_path]
    output = run(*command, '--cfg-options', *switches)
    assert re.search(r'(Epoch|Iter)\(train\) .*\b2/2\]', output)


def test_data_set_without_a_miniature_is_named(run, tmp_path, write_config):
    config = write_config(more="train_dataloader.update(dataset=dict(type='VOCDataset'))")
    output = run('tools/train.py', config, '--smoke', '--work-dir', tmp_path, expect=1)
    assert "no miniature of 'VOCDataset'" in output


def test_a_user_s_own_data_set(run, tmp_path, write_config):
    """Another layout and other classes, and the student by name: nothing is downloaded."""
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
    output = run('tools/train.py', config, '--smoke', '--work-dir', tmp_path)
    assert 'Epoch(val) [1]' in output


def test_a_student_given_by_name(run, tmp_path):
    base = ROOT / 'configs' / 'diffkd' / 'retinanet_r101_r50_coco.py'
    name = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
    output = run(
        'tools/train.py', base, '--smoke', '--work-dir', tmp_path,
        '--cfg-options', f'model.student={name}',
    )  # fmt: skip
    assert 'Epoch(val) [1]' in output
