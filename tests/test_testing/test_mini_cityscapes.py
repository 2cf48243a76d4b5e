"""The miniature Cityscapes is what mmseg's unmodified configs and Cityscapes' tools expect."""

import json

import cv2
import numpy as np
import pytest

from mmdiffkd.testing import make_mini_cityscapes
from mmdiffkd.testing.mini_cityscapes import CATEGORY_IDS, CATEGORY_SHAPES, GROUNDS
from mmdiffkd.testing.shapes import OUTLINES

SMALL = dict(num_train=5, num_val=3, image_size=(128, 64))
# The ids of the evaluated categories, in the order of their train ids.
EVALUATED = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


@pytest.fixture(scope='module')
def mini(tmp_path_factory):
    return make_mini_cityscapes(tmp_path_factory.mktemp('city') / 'mini', **SMALL)


def read(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return image


@pytest.mark.parametrize(
    'split, cities', [('train', ['aachen', 'bremen']), ('val', ['frankfurt', 'lindau'])]
)
def test_layout_and_ids(mini, split, cities):
    pictures = sorted((mini / 'leftImg8bit' / split).rglob('*_leftImg8bit.png'))
    assert len(pictures) == SMALL[f'num_{split}']
    assert sorted({path.parent.name for path in pictures}) == cities
    train_id_of = np.full(256, 255)
    train_id_of[EVALUATED] = range(19)
    for path in pictures:
        city, number, frame, _ = path.name.split('_')
        assert city == path.parent.name and len(number) == len(frame) == 6
        stem = f'gtFine/{split}/{city}/{city}_{number}_{frame}_gtFine'
        picture = read(path)
        train_ids, ids = (
            read(mini / f'{stem}_{kind}.png') for kind in ('labelTrainIds', 'labelIds')
        )
        assert picture.shape == (64, 128, 3) and train_ids.shape == ids.shape == (64, 128)
        assert train_ids.dtype == ids.dtype == np.uint8
        np.testing.assert_array_equal(train_ids, train_id_of[ids])
        # The street from the sky to the bonnet, and at least one object.
        assert {23, 11, 21, 8, 7, 1} < {*np.unique(ids).tolist()}
    annotated = [path for path in (mini / 'gtFine' / split).rglob('*') if path.is_file()]
    assert len(annotated) == 3 * len(pictures)


def test_polygons_give_the_same_labels(mini):
    for path in (mini / 'gtFine').rglob('*_polygons.json'):
        content = json.loads(path.read_text())
        painted = np.zeros((content['imgHeight'], content['imgWidth']), np.uint8)
        for region in content['objects']:
            points = np.array(region['polygon'])
            cv2.fillPoly(painted, [points], CATEGORY_IDS[region['label']].label)
        ids = read(path.with_name(path.name.replace('polygons.json', 'labelIds.png')))
        # Corners on whole pixels move outlines by up to one pixel.
        inside = cv2.erode(ids, np.ones((3, 3))) == cv2.dilate(ids, np.ones((3, 3)))
        assert inside.mean() > 0.5
        assert (painted == ids)[inside].mean() > 0.99


def test_categories_are_those_of_mmseg():
    classes = pytest.importorskip('mmseg.datasets').CityscapesDataset.METAINFO['classes']
    for name, ids in CATEGORY_IDS.items():
        if name == 'ego vehicle':
            assert ids == (1, 255)
        else:
            assert classes[ids.train] == name and EVALUATED[ids.train] == ids.label
    assert {*CATEGORY_IDS} == {*GROUNDS, *CATEGORY_SHAPES}
    assert {*CATEGORY_SHAPES.values()} == {*OUTLINES}


def test_ground_has_the_colours_of_its_categories(mini):
    """So much that the nearest mean colour finds the category of most of a picture."""
    colours = np.array([GROUNDS[name].colour for name in GROUNDS], float)
    ids = np.array([CATEGORY_IDS[name].label for name in GROUNDS])
    for path in (mini / 'leftImg8bit').rglob('*.png'):
        name = path.name.replace('leftImg8bit', 'gtFine_labelIds')
        labels = read(mini / 'gtFine' / path.parent.relative_to(mini / 'leftImg8bit') / name)
        ground = np.isin(labels, ids)
        # The clouds of the background stay visible: take out what all of them share.
        picture = cv2.blur(read(path), (5, 5)).astype(float)
        picture -= picture[ground].mean(0) - colours.mean(0)
        spread = 0.6 * (colours - colours.mean(0)) + colours.mean(0)
        nearest = ids[np.linalg.norm(picture[:, :, None] - spread, axis=-1).argmin(-1)]
        assert (nearest == labels)[ground].mean() > 0.5


def test_unmodified_config_of_mmseg(tmp_path, monkeypatch, host_config, read_all, score_of_truth):
    make_mini_cityscapes(tmp_path / 'data/cityscapes')
    monkeypatch.chdir(tmp_path)
    cfg = host_config('mmseg', 'deeplabv3/deeplabv3_r18-d8_4xb2-80k_cityscapes-512x1024.py')
    for loader, count in ((cfg.train_dataloader, 8), (cfg.val_dataloader, 2)):
        dataset, samples = read_all(loader)
        assert len(dataset) == len(samples) == count
        assert len(dataset.metainfo['classes']) == 19
        labels = {v for sample in samples for v in sample.gt_sem_seg.data.unique().tolist()}
        assert {0, 1, 2, 8, 10, 255} < labels <= {ids.train for ids in CATEGORY_IDS.values()}
    score = score_of_truth(cfg.val_evaluator, dataset, samples)
    assert score['mIoU'] == score['aAcc'] == 100


@pytest.mark.parametrize('classes', [['a'], ['ground', 'thing'], [f'class{i}' for i in range(60)]])
def test_other_classes(tmp_path, classes):
    root = make_mini_cityscapes(
        tmp_path / 'own', **dict(SMALL, num_train=12), num_classes=8, classes=classes
    )
    files = [path for path in (root / 'gtFine').rglob('*') if path.is_file()]
    assert len(files) == 15 and all(p.name.endswith('_labelTrainIds.png') for p in files)
    labels = {int(value) for path in files for value in np.unique(read(path))}
    assert labels == {*range(min(len(classes), 9)), 255}
