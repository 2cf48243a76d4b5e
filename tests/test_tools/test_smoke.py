"""Every shipped config runs: the smoke path trains, validates and saves it."""

import pytest
import torch

from .conftest import ROOT

CONFIGS = sorted((ROOT / 'configs').glob('*/*.py'))


def test_there_are_configs():
    names = {path.stem for path in CONFIGS}
    assert {
        'retinanet_r101_r50_coco',
        'faster-rcnn_r101_r50_coco',
        'fcos_r101_r50_coco',
        'cascade-mask-rcnn_x101_faster-rcnn_r50_coco',
        'retinanet_x101_r50_coco',
        'reppoints_x101_r50_coco',
    } <= names


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem)
def test_smoke(config, run, tmp_path):
    output = run('tools/train.py', config, '--smoke', '--work-dir', tmp_path)
    assert 'Epoch(train) [1][2/2]' in output
    assert 'Epoch(val) [1]' in output
    checkpoint = torch.load(tmp_path / 'smoke' / 'epoch_1.pth', weights_only=False)
    assert checkpoint['meta']['iter'] == 2
    weights = checkpoint['state_dict']
    assert all(value.isfinite().all() for value in weights.values())
    is_distilled = config.parent.name == 'diffkd' or config.stem.startswith('diffkd')
    assert any(key.startswith('distill.pairs.') for key in weights) == is_distilled
    assert not [key for key in weights if 'teacher' in key or key.startswith('student')]


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
