"""The miniature COCO is what COCO tools and mmdet expect, and never in anybody's way."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdiffkd.testing import make_mini_coco
from mmdiffkd.testing.coco_categories import COCO_CATEGORIES
from mmdiffkd.testing.mini_coco import CATEGORY_SHAPES
from mmdiffkd.testing.shapes import OUTLINES, polygon_area, shape_mask

SMALL = dict(num_train=4, num_val=3, image_size=(64, 40))


@pytest.fixture(scope='module')
def mini(tmp_path_factory):
    return make_mini_coco(tmp_path_factory.mktemp('coco') / 'mini', **SMALL)


def read_annotations(root, split):
    return json.loads((root / f'annotations/instances_{split}2017.json').read_text())


def file_contents(root):
    return {p.relative_to(root): p.read_bytes() for p in root.rglob('*') if p.is_file()}


@pytest.mark.parametrize('split, count', [('train', 4), ('val', 3)])
def test_layout_and_pictures(mini, split, count):
    content = read_annotations(mini, split)
    assert len(content['images']) == len(list((mini / f'{split}2017').iterdir())) == count
    for image in content['images']:
        picture = cv2.imread(str(mini / f'{split}2017' / image['file_name']))
        assert picture.shape == (image['height'], image['width'], 3)
        assert 33 <= image['height'] <= 40 < image['width'] <= 64
        assert 1 <= sum(a['image_id'] == image['id'] for a in content['annotations']) <= 5
        assert picture.std() > 5


def test_categories_are_those_of_coco():
    mmdet_datasets = pytest.importorskip('mmdet.datasets')
    assert (
        tuple(c['name'] for c in COCO_CATEGORIES)
        == (mmdet_datasets.CocoDataset.METAINFO['classes'])
    )
    ids = [c['id'] for c in COCO_CATEGORIES]
    # The ids that COCO's annotation files leave out.
    assert sorted({*range(1, 91)} - {*ids}) == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert ids == sorted(ids)
    assert {*CATEGORY_SHAPES} <= {c['name'] for c in COCO_CATEGORIES}
    assert {*CATEGORY_SHAPES.values()} == {*OUTLINES}


@pytest.mark.parametrize('split', ['train', 'val'])
def test_boxes_areas_and_polygons_agree(mini, split):
    coco = pytest.importorskip('pycocotools.coco').COCO(
        str(mini / f'annotations/instances_{split}2017.json')
    )
    for annotation in coco.loadAnns(coco.getAnnIds()):
        image = coco.imgs[annotation['image_id']]
        x, y, w, h = annotation['bbox']
        assert x > 0 and y > 0 and x + w < image['width'] and y + h < image['height']
        polygon = np.reshape(annotation['segmentation'][0], (-1, 2))
        np.testing.assert_allclose(polygon.min(0), [x, y], atol=0.01)
        np.testing.assert_allclose(polygon.max(0), [x + w, y + h], atol=0.01)
        mask = coco.annToMask(annotation)
        assert mask.shape == (image['height'], image['width'])
        # Rasterising moves the outline by at most half a pixel.
        outline = np.linalg.norm(np.diff(polygon, axis=0, append=polygon[:1]), axis=1).sum()
        assert abs(mask.sum() - annotation['area']) < outline / 4
        drawn = shape_mask((image['width'], image['height']), polygon) > 0.5
        assert (drawn != mask.astype(bool)).sum() < outline / 2


def test_areas_of_outlines():
    assert polygon_area(OUTLINES['square']) == pytest.approx(2)
    assert polygon_area(OUTLINES['disc']) == pytest.approx(np.pi, rel=0.02)
    assert polygon_area(OUTLINES['ring']) == pytest.approx(0.75 * np.pi, rel=0.02)
    for outline in OUTLINES.values():
        assert np.linalg.norm(outline, axis=1).max() == pytest.approx(1)


@pytest.mark.parametrize('poly2mask, tolerance', [(False, 0.5), (True, 25)])
def test_mmdet_reads_it_with_masks(mini, poly2mask, tolerance):
    pytest.importorskip('mmcv.ops')
    datasets = pytest.importorskip('mmdet.datasets')
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    dataset = datasets.CocoDataset(
        ann_file='annotations/instances_train2017.json',
        data_root=str(mini),
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=poly2mask),
            dict(type='Resize', scale=(1333, 800), keep_ratio=True),
            dict(type='RandomFlip', prob=1.0),
            dict(type='PackDetInputs'),
        ],
    )
    assert len(dataset) == SMALL['num_train']
    occurring = {
        datasets.CocoDataset.METAINFO['classes'].index(name) for name in list(CATEGORY_SHAPES)[:5]
    }
    for item in dataset:
        instances = item['data_samples'].gt_instances
        assert {*instances.labels.tolist()} <= occurring
        assert len(instances.masks) == len(instances.bboxes) >= 1
        assert (instances.masks.areas > 0).all()
        boxes_of_masks = instances.masks.get_bboxes(dst_type='hbox').tensor
        # Resizing makes one pixel of the picture about twenty; bitmaps are that coarse.
        np.testing.assert_allclose(boxes_of_masks, instances.bboxes.tensor, atol=tolerance)


def test_same_arguments_same_bytes(mini, tmp_path):
    assert file_contents(make_mini_coco(tmp_path / 'again', **SMALL)) == file_contents(mini)
    other = make_mini_coco(tmp_path / 'other', **SMALL, seed=1)
    assert read_annotations(other, 'val') != read_annotations(mini, 'val')


def test_pictures_do_not_depend_on_their_number(mini, tmp_path):
    more = make_mini_coco(tmp_path / 'more', **dict(SMALL, num_train=6, num_val=1))
    small, large = file_contents(mini), file_contents(more)
    shared = [p for p in small if p.suffix == '.jpg' and p in large]
    assert len(shared) == 5
    assert all(small[p] == large[p] for p in shared)


def test_splits_differ(mini):
    pictures = [p.read_bytes() for p in mini.rglob('*.jpg')]
    assert len({*pictures}) == len(pictures) == 7
    ids = [{i['id'] for i in read_annotations(mini, split)['images']} for split in ('train', 'val')]
    assert not ids[0] & ids[1]


def test_complete_data_set_is_reused(tmp_path):
    root = make_mini_coco(tmp_path / 'mini', **SMALL)
    times = {p: p.stat().st_mtime_ns for p in root.rglob('*')}
    assert make_mini_coco(str(root), **SMALL) == root
    assert {p: p.stat().st_mtime_ns for p in root.rglob('*')} == times


def test_other_parameters_are_refused(tmp_path):
    root = make_mini_coco(tmp_path / 'mini', **SMALL)
    before = file_contents(root)
    with pytest.raises(FileExistsError, match='num_train: 4 there, 5 asked'):
        make_mini_coco(root, **dict(SMALL, num_train=5))
    assert file_contents(root) == before


def test_foreign_data_is_never_touched(tmp_path):
    annotations = tmp_path / 'coco/annotations/instances_train2017.json'
    annotations.parent.mkdir(parents=True)
    annotations.write_text('{}')
    with pytest.raises(FileExistsError, match='nothing was written'):
        make_mini_coco(tmp_path / 'coco', **SMALL)
    assert [p for p in tmp_path.rglob('*') if p.is_file()] == [annotations]
    assert annotations.read_text() == '{}'


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, 'imwrite', lambda *args: False)
    with pytest.raises(OSError, match='cannot write'):
        make_mini_coco(tmp_path / 'mini', **SMALL)
    assert not list(tmp_path.iterdir())


def test_empty_directory_is_filled(tmp_path):
    (tmp_path / 'mini').mkdir()
    assert read_annotations(make_mini_coco(tmp_path / 'mini', **SMALL), 'val')['annotations']


@pytest.mark.parametrize(
    'wrong',
    [dict(num_train=0), dict(num_classes=9), dict(image_size=(64, 32)), dict(max_objects=0)],
)
def test_wrong_arguments_are_named(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_mini_coco(tmp_path / 'mini', **dict(SMALL, **wrong))
    assert not (tmp_path / 'mini').exists()


def test_command_line_tool_runs_from_a_bare_source_tree(mini, tmp_path):
    source = Path(__file__).resolve().parents[2]
    shutil.copytree(source / 'mmdiffkd', tmp_path / 'tree/mmdiffkd')
    shutil.copytree(source / 'tools', tmp_path / 'tree/tools')
    command = [
        sys.executable,
        'tools/make_mini_dataset.py',
        'coco',
        str(tmp_path / 'made'),
        '--num-train',
        '4',
        '--num-val',
        '3',
        '--image-size',
        '64',
        '40',
    ]
    subprocess.run(command, cwd=tmp_path / 'tree', check=True)
    assert file_contents(tmp_path / 'made') == file_contents(mini)
    command[command.index('4')] = '5'
    refused = subprocess.run(
        command, cwd=tmp_path / 'tree', check=False, text=True, stderr=subprocess.PIPE
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith('error: ') and 'Traceback' not in refused.stderr
