"""Configs of the host libraries run on the miniatures, which are never in anybody's way."""

import hashlib
import json

import cv2
import pytest

from mmdiffkd.errors import ConfigError
from mmdiffkd.testing import MINI_DATA_SETS, make_mini_dataset

SMALL = dict(num_train=4, num_val=3, image_size=(64, 40))
HOSTS = dict(
    coco='mmdet', ade20k='mmseg', cityscapes='mmseg', imagenet='mmpretrain', cifar100='mmpretrain'
)
every_kind = pytest.mark.parametrize('kind', MINI_DATA_SETS)


@pytest.fixture
def make(tmp_path):
    def make_small(kind, name='mini', **changes):
        pytest.importorskip(HOSTS[kind])
        return make_mini_dataset(kind, tmp_path / name, **{**SMALL, **changes})

    return make_small


def file_contents(root):
    return {p.relative_to(root): p.read_bytes() for p in root.rglob('*') if p.is_file()}


def annotations(root, split):
    return json.loads((root / f'annotations/instances_{split}2017.json').read_text())


@every_kind
def test_same_arguments_same_bytes(make, kind):
    first = file_contents(make(kind, 'a'))
    assert file_contents(make(kind, 'b')) == first
    more = file_contents(make(kind, 'c', num_train=6))
    pictures = [path for path in first if path.suffix in ('.jpg', '.png', '.JPEG')]
    assert all(more[path] == first[path] for path in pictures)
    assert file_contents(make(kind, 'd', seed=1)) != first


def test_the_quickstart_s_pictures_are_those_that_were_measured(make):
    """Its results in the README hold for these pictures and labels."""
    root = make('coco', num_train=20, num_val=5, image_size=(160, 96))
    found = hashlib.sha256()
    for split in ('train', 'val'):
        content = annotations(root, split)
        names = {category['id']: category['name'] for category in content['categories']}
        found.update(
            json.dumps([[names[a['category_id']], a['bbox']] for a in content['annotations']])
            .encode()
        )  # fmt: skip
    assert found.hexdigest()[:16] == 'e1bfa670b6aeb2f2'


def test_existing_data_is_reused_and_never_overwritten(make):
    root = make('coco')
    times = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    assert make('coco') == root
    with pytest.raises(ConfigError, match='holds other data'):
        make('coco', num_train=5)
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == times


def test_interrupted_writing_leaves_nothing(make, tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, 'imwrite', lambda *args: False)
    with pytest.raises(OSError, match='cannot write'):
        make('coco')
    assert not list(tmp_path.iterdir())


def test_wrong_arguments_are_named(make):
    for wrong in (dict(num_train=0), dict(seed=-1), dict(image_size=(64, 35))):
        with pytest.raises(ConfigError, match=f'{next(iter(wrong))} must be an integer from'):
            make('coco', **wrong)


@pytest.mark.parametrize(
    ('kind', 'place', 'config', 'num_classes'),
    [
        ('ade20k', 'ade/ADEChallengeData2016', 'pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512', 150),
        ('cityscapes', 'cityscapes', 'pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024', 19),
        ('imagenet', 'imagenet', 'resnet/resnet18_8xb32_in1k', 1000),
        ('cifar100', 'cifar100', 'resnet/resnet50_8xb16_cifar100', 100),
    ],
)  # fmt: skip
def test_config_of_a_host(
    kind, place, config, num_classes, tmp_path, monkeypatch, host_config, read_all
):
    """Unchanged, but for the type of CIFAR-100, it reads everything."""
    cfg = host_config(HOSTS[kind], f'{config}.py')
    make_mini_dataset(kind, tmp_path / 'data' / place)
    monkeypatch.chdir(tmp_path)
    for loader, count in ((cfg.train_dataloader, 8), (cfg.val_dataloader, 4)):
        if kind == 'cifar100':
            loader.dataset.type = 'mmdiffkd.datasets.cifar100.UnverifiedCIFAR100'
        dataset, samples = read_all(loader)
        assert len(samples) == count
        assert len(dataset.metainfo['classes']) == num_classes
        for sample in samples:
            labels = sample.gt_sem_seg.data if 'gt_sem_seg' in sample else sample.gt_label
            assert {*labels.unique().tolist()} <= {*range(num_classes), 255}
