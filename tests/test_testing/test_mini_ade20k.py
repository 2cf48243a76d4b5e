"""The miniature ADE20K is what mmseg's unmodified configs expect."""

import cv2
import numpy as np
import pytest

from mmdiffkd.testing import make_mini_ade20k
from mmdiffkd.testing.mini_ade20k import CATEGORY_IDS, CATEGORY_SHAPES, GROUNDS
from mmdiffkd.testing.shapes import OUTLINES

SMALL = dict(num_train=5, num_val=3, image_size=(72, 56))


@pytest.fixture(scope='module')
def mini(tmp_path_factory):
    return make_mini_ade20k(tmp_path_factory.mktemp('ade') / 'mini', **SMALL)


def read_split(root, split, folder):
    """Pictures and annotations, in order."""
    pictures = sorted((root / 'images' / folder).iterdir())
    masks = sorted((root / 'annotations' / folder).iterdir())
    names = [f'ADE_{split}_{number:08d}' for number in range(1, len(pictures) + 1)]
    assert [path.name for path in pictures] == [f'{name}.jpg' for name in names]
    assert [path.name for path in masks] == [f'{name}.png' for name in names]
    return [
        (cv2.imread(str(picture)), cv2.imread(str(mask), cv2.IMREAD_UNCHANGED))
        for picture, mask in zip(pictures, masks)
    ]


@pytest.mark.parametrize(
    'split, folder, count', [('train', 'training', 5), ('val', 'validation', 3)]
)
def test_layout_and_values(mini, split, folder, count):
    items = read_split(mini, split, folder)
    assert len(items) == count
    occurring = {CATEGORY_IDS[name] for name in list(CATEGORY_SHAPES)[:5]}
    for picture, mask in items:
        assert mask.dtype == np.uint8 and mask.shape == picture.shape[:2]
        assert 51 <= mask.shape[0] <= 56 and 66 <= mask.shape[1] <= 72
        values = {*np.unique(mask).tolist()}
        assert {0, 1, 4} < values <= {0, 1, 4} | occurring


def test_categories_are_those_of_mmseg():
    classes = pytest.importorskip('mmseg.datasets').ADE20KDataset.METAINFO['classes']
    for name, value in CATEGORY_IDS.items():
        assert value == 0 if name == 'other' else classes[value - 1] == name
    assert {*CATEGORY_IDS} == {*GROUNDS, *CATEGORY_SHAPES}
    assert {*CATEGORY_SHAPES.values()} == {*OUTLINES}


def test_all_categories_of_objects_can_occur(tmp_path):
    root = make_mini_ade20k(tmp_path / 'a', **dict(SMALL, num_train=30), num_classes=8)
    values = {
        value for _, mask in read_split(root, 'train', 'training') for value in np.unique(mask)
    }
    assert values == {*CATEGORY_IDS.values()}


def test_annotations_belong_to_their_pictures(mini):
    """Crossing an outline changes the colour more than anything within a region."""
    for picture, mask in read_split(mini, 'train', 'training'):
        # Averages over three pixels hide the noise.
        change = np.abs(np.diff(cv2.blur(picture, (3, 3)).astype(float), axis=1)).max(-1)
        outline = mask[:, 1:] != mask[:, :-1]
        assert change[outline].mean() > 2 * change[~outline].mean()


def test_unmodified_config_of_mmseg(tmp_path, monkeypatch, host_config, read_all, score_of_truth):
    make_mini_ade20k(tmp_path / 'data/ade/ADEChallengeData2016')
    monkeypatch.chdir(tmp_path)
    cfg = host_config('mmseg', 'deeplabv3/deeplabv3_r101-d8_4xb4-160k_ade20k-512x512.py')
    occurring = {CATEGORY_IDS[name] - 1 for name in ('wall', 'floor', *list(CATEGORY_SHAPES)[:5])}
    for loader, count in ((cfg.train_dataloader, 8), (cfg.val_dataloader, 4)):
        dataset, samples = read_all(loader)
        assert len(dataset) == len(samples) == count
        assert len(dataset.metainfo['classes']) == 150
        labels = {v for sample in samples for v in sample.gt_sem_seg.data.unique().tolist()}
        assert {0, 3, 255} < labels <= occurring | {255}
    score = score_of_truth(cfg.val_evaluator, dataset, samples)
    assert score['mIoU'] == score['aAcc'] == 100


@pytest.mark.parametrize('reduce_zero_label', [True, False])
@pytest.mark.parametrize('classes', [['a'], ['ground', 'thing'], [f'class{i}' for i in range(200)]])
def test_other_classes_in_a_data_set_of_ones_own(tmp_path, classes, reduce_zero_label):
    datasets = pytest.importorskip('mmseg.datasets')
    root = make_mini_ade20k(
        tmp_path / 'own',
        **dict(SMALL, num_train=30),
        num_classes=8,
        classes=classes,
        reduce_zero_label=reduce_zero_label,
    )
    dataset = datasets.BaseSegDataset(
        data_root=str(root),
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        metainfo=dict(classes=classes),
        reduce_zero_label=reduce_zero_label,
        pipeline=[datasets.transforms.LoadAnnotations()],
    )
    labels = {int(v) for item in dataset for v in np.unique(item['gt_seg_map'])}
    assert labels == {*range(min(len(classes), 9)), 255}
