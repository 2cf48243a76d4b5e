"""The data sets of the comparison: what is written is what the hosts read."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from composing import SPLITS, Digits, compose_scene, random_state, write_digits, write_scenes
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from .conftest import ROOT

CONFIGS = ROOT / 'benchmarks/comparison'
SIZES = dict(train=60, test=3)


def discs():
    """Ten discs for each of the ten digits."""
    strokes = cv2.circle(np.zeros((28, 28), np.uint8), (14, 14), 11, 255, -1)
    return Digits([strokes] * 100, np.repeat(np.arange(10), 10))


@pytest.fixture(scope='module')
def photographs():
    return list(np.random.RandomState(0).randint(0, 255, (2, 200, 150, 3), np.uint8))


@pytest.fixture(scope='module')
def root(photographs, tmp_path_factory):
    root = tmp_path_factory.mktemp('comparison')
    for split in SPLITS:
        for name, write in (('digits', write_digits), ('scenes', write_scenes)):
            write(root / name, split, SIZES[split], photographs, discs(), 0)
    return root


def dataset(task, root, split):
    cfg = Config.fromfile(CONFIGS / task / 'student.py')
    init_default_scope(cfg.default_scope)
    settings = cfg[f'{split}_dataloader'].dataset
    folder = 'digits' if task == 'classification' else 'scenes'
    assert settings.data_root == f'data/comparison/{folder}/'
    return DATASETS.build(dict(settings, data_root=str(root / folder)))


def test_the_splits_share_no_picture():
    digits = Digits([np.full((1, 1), i) for i in range(60)], np.repeat([0, 1, 2], 20))
    parts = [digits.part(split, seed=0) for split in SPLITS]
    assert [len(part.labels) for part in parts] == [36, 24]
    assert sorted(image.item() for part in parts for image in part.strokes) == [*range(60)]
    assert all(image // 20 == label for part in parts for image, label in zip(*part))


def test_a_picture_follows_from_seed_split_and_index(photographs):
    def image(*key):
        return compose_scene(random_state(*key), photographs, discs()).image

    first = image(0, 'train', 1)
    assert np.array_equal(first, image(0, 'train', 1))
    for other in ((1, 'train', 1), (0, 'test', 1), (0, 'train', 2)):
        assert not np.array_equal(first, image(*other))


@pytest.mark.parametrize('split', SPLITS)
def test_detection_and_segmentation_read_the_same_objects(root, split):
    pytest.importorskip('mmdet')
    pytest.importorskip('mmseg')
    boxes, maps = (dataset(task, root, split) for task in ('detection', 'segmentation'))
    assert len(boxes) == len(maps) == SIZES[split]
    assert maps.metainfo['classes'] == ('background', *boxes.metainfo['classes'])
    for index in range(3):
        read = boxes.get_data_info(index)
        image = cv2.imread(maps.get_data_info(index)['seg_map_path'], cv2.IMREAD_UNCHANGED)
        labels = {instance['bbox_label'] + 1 for instance in read['instances']}
        assert labels == {*np.unique(image)} - {0}
        # The box around all objects is the same in both.
        corners = np.array([instance['bbox'] for instance in read['instances']])
        left, top, width, height = cv2.boundingRect((image > 0).astype(np.uint8))
        assert [*corners[:, :2].min(0), *corners[:, 2:].max(0)] == [
            *(left, top, left + width, top + height)
        ]


def test_classification_reads_the_digits(root):
    pytest.importorskip('mmpretrain')
    digits = dataset('classification', root, 'train')
    assert len(digits) == SIZES['train']
    assert digits[0]['inputs'].shape == (3, 32, 32)
    for index in range(len(digits)):
        info = digits.get_data_info(index)
        assert Path(info['img_path']).parent.name == str(info['gt_label'])
