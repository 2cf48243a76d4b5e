"""The miniature ImageNet is what mmpretrain's unmodified configs expect."""

import cv2
import numpy as np
import pytest

from mmdiffkd.testing import make_mini_imagenet
from mmdiffkd.testing.mini_imagenet import SYNSETS

SMALL = dict(num_train=6, num_val=5, image_size=(72, 56), num_classes=3)


@pytest.fixture(scope='module')
def mini(tmp_path_factory):
    return make_mini_imagenet(tmp_path_factory.mktemp('imagenet') / 'mini', **SMALL)


@pytest.mark.parametrize('split, count', [('train', 6), ('val', 5)])
def test_layout_and_lists(mini, split, count):
    lines = [line.split(' ') for line in (mini / f'meta/{split}.txt').read_text().splitlines()]
    files = [path for path in (mini / split).rglob('*') if path.is_file()]
    assert [name for name, _ in lines] == sorted(str(p.relative_to(mini / split)) for p in files)
    assert len(lines) == count
    label_of = {synset.wnid: synset.label for synset in SYNSETS}
    for name, label in lines:
        assert label_of[name.split('/')[0]] == int(label)
        height, width, _ = cv2.imread(str(mini / split / name)).shape
        assert 51 <= height <= 56 and 66 <= width <= 72
    assert {path.name for path in (mini / split).iterdir()} == {s.wnid for s in SYNSETS[:3]}


def test_names_of_files_are_like_the_real_ones(mini):
    assert (mini / 'train/n03642806/n03642806_1.JPEG').is_file()
    assert (mini / 'val/n03642806/ILSVRC2012_val_00000001.JPEG').is_file()


def test_synsets_are_real():
    categories = pytest.importorskip('mmpretrain.datasets').ImageNet.METAINFO['classes']
    for synset in SYNSETS:
        assert categories[synset.label].split(',')[0] == synset.name
    # The labels count the sorted ids.
    assert sorted(SYNSETS) == sorted(SYNSETS, key=lambda synset: synset.label)


def test_synsets_are_those_of_timm():
    timm_data = pytest.importorskip('timm.data', reason='timm lists the ids of ImageNet')
    wnids = timm_data.ImageNetInfo('imagenet-1k').label_names()
    assert all(wnids[synset.label] == synset.wnid for synset in SYNSETS)


def test_unmodified_config_of_mmpretrain(
    tmp_path, monkeypatch, host_config, read_all, score_of_truth
):
    make_mini_imagenet(tmp_path / 'data/imagenet')
    monkeypatch.chdir(tmp_path)
    cfg = host_config('mmpretrain', 'resnet/resnet18_8xb32_in1k.py')
    for loader, count in ((cfg.train_dataloader, 16), (cfg.val_dataloader, 8)):
        dataset, samples = read_all(loader)
        assert len(dataset) == len(samples) == count
        assert len(dataset.metainfo['classes']) == 1000
        labels = {int(sample.gt_label) for sample in samples}
        assert labels == {synset.label for synset in SYNSETS[:4]}
    score = score_of_truth(cfg.val_evaluator, dataset, samples)
    assert score == {'accuracy/top1': 100, 'accuracy/top5': 100}


@pytest.mark.parametrize('ann_file', ['', 'meta/train.txt'])
def test_classes_of_ones_own(tmp_path, ann_file):
    datasets = pytest.importorskip('mmpretrain.datasets')
    # Neither in alphabetical order nor all fit for a path, and more than there are pictures.
    classes = ['zebra', 'ape/monkey', '..', *(f'class{i}' for i in range(20))]
    root = make_mini_imagenet(tmp_path / 'own', **SMALL, classes=classes)
    dataset = datasets.CustomDataset(
        data_root=str(root),
        data_prefix='train',
        ann_file=ann_file,
        metainfo=dict(classes=classes),
    )
    found = {(dataset[i]['img_path'].split('/')[-2], dataset[i]['gt_label']) for i in range(6)}
    assert found == {
        ('0000_zebra', 0),
        ('0001_ape_monkey', 1),
        ('0002___', 2),
        ('0003_class0', 3),
        ('0004_class1', 4),
        ('0005_class2', 5),
    }


def test_pictures_show_their_class(tmp_path):
    root = make_mini_imagenet(tmp_path / 'a', num_train=24, num_val=12, image_size=(64, 64))
    means = {
        split: {path: cv2.imread(str(path)).mean((0, 1)) for path in (root / split).rglob('*.JPEG')}
        for split in ('train', 'val')
    }
    hits = 0
    for path, mean in means['val'].items():
        nearest = min(means['train'], key=lambda p: np.linalg.norm(means['train'][p] - mean))
        hits += nearest.parent.name == path.parent.name
    # Chance would hit 3 of the 12.
    assert hits >= 6
