"""What stands for the data of a host's config in a smoke run."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS

from mmdiffkd.testing import formats, make_smoke_config
from mmdiffkd.testing.miniatures import format_of


def innermost(loader):
    """A loader of the data set inside wrappers that repeat it."""
    dataset = loader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return Config(dict(dataset=dataset))


@pytest.mark.parametrize(
    'library, name, number',
    [
        ('mmseg', 'pspnet/pspnet_r50-d8_4xb4-20k_voc12aug-512x512.py', 21),  # lists its files
        ('mmseg', 'unet/unet-s5-d16_fcn_4xb4-40k_drive-64x64.py', 2),
        ('mmseg', 'hrnet/fcn_hr18_4xb4-80k_isaid-896x896.py', 16),
        ('mmseg', 'hrnet/fcn_hr18_4xb4-80k_potsdam-512x512.py', 6),  # leaves out label 0
    ],
)
def test_label_maps_of_any_data_set(library, name, number, host_config, read_all, tmp_path):
    """Its own class reads them, and every label is one of its classes or ignored."""
    cfg = host_config(library, name)
    cfg.work_dir = str(tmp_path)
    cfg = make_smoke_config(cfg)
    for key, images in (('train_dataloader', 4), ('val_dataloader', 2)):
        dataset, samples = read_all(innermost(cfg[key]))
        assert len(dataset.metainfo['classes']) == number
        assert len(samples) == images
        labels = {label for sample in samples for label in sample.gt_sem_seg.data.unique().tolist()}
        assert len(labels) > 1 and max(labels - {255}) < number


@pytest.mark.parametrize(
    'name, number',
    [
        ('openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py', 601),  # class names in a file
        ('crowddet/crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman.py', 1),
        ('pascal_voc/retinanet_r50_fpn_1x_voc0712.py', 20),
        ('fast_rcnn/fast-rcnn_r50_fpn_1x_coco.py', 80),  # with proposals
        ('yolox/yolox_tiny_8xb8-300e_coco.py', 80),  # cuts a mosaic
        ('lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py', 1203),
    ],
)
def test_boxes_of_any_data_set(name, number, host_config, tmp_path):
    """A data set for the same classes reads them, and the metrics do not ask for other files."""
    cfg = host_config('mmdet', name)
    cfg.work_dir = str(tmp_path)
    cfg = make_smoke_config(cfg)
    for key, images in (('train_dataloader', 4), ('val_dataloader', 2)):
        dataset = DATASETS.build(cfg[key].dataset)
        assert len(dataset.metainfo['classes']) == number and len(dataset) == images
        samples = [dataset[index]['data_samples'] for index in range(images)]
        assert all('proposals' in sample for sample in samples) == ('fast_rcnn' in name)
        if key == 'train_dataloader':
            assert all(len(sample.gt_instances.bboxes) for sample in samples)
    Evaluator(cfg.val_evaluator)


def test_segments_of_panoptic_data(host_config, tmp_path):
    """Pixels have the ids of the segments, and the area of these."""
    cfg = host_config('mmdet', 'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py')
    cfg.work_dir = str(tmp_path)
    cfg = make_smoke_config(cfg)
    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, pipeline=[]))
    assert len(dataset) == 4
    for item in dataset:
        ids = cv2.imread(item['seg_map_path']).astype(int) @ [2**16, 2**8, 1]
        *things, ground = item['segments_info']
        assert [one['is_thing'] for one in (*things, ground)] == [True] * len(things) + [False]
        assert {*ids.flat} == {one['id'] for one in (*things, ground)}
        areas = [
            (box[2] - box[0]) * (box[3] - box[1]) for box in (i['bbox'] for i in item['instances'])
        ]
        for one, area in zip(things, areas):
            assert 0.2 < (ids == one['id']).sum() / area <= 1.1


@pytest.mark.parametrize(
    'name', ['resnet/resnet18_8xb16_cifar10.py', 'resnet/resnet50_8xb8_cub.py']
)
def test_pictures_with_a_label(name, host_config, read_all, tmp_path):
    cfg = host_config('mmpretrain', name)
    cfg.work_dir = str(tmp_path)
    _, samples = read_all(make_smoke_config(cfg).train_dataloader)
    labels = {int(sample.gt_label) for sample in samples}
    assert len(samples) == 8 and max(labels) < cfg.model.head.num_classes


@pytest.mark.parametrize('classes, number', [('person', 1), (('hat', 'bag', 'tie'), 3)])
def test_own_classes_of_boxes(classes, number, host_config, tmp_path):
    """Each data set has the classes that it asks for."""
    cfg = host_config('mmdet', 'retinanet/retinanet_r18_fpn_1x_coco.py')
    cfg.work_dir = str(tmp_path)
    cfg.train_dataloader.dataset.metainfo = dict(classes=classes)
    cfg = make_smoke_config(cfg)
    for key, expected in (('train_dataloader', number), ('val_dataloader', 80)):
        dataset = DATASETS.build(dict(cfg[key].dataset, pipeline=[]))
        assert len(dataset.cat_ids) == expected
        assert all(data['instances'] for data in dataset)


@pytest.mark.parametrize(
    'library, kind, known',
    [
        ('mmdet', 'CocoDataset', True),
        ('mmdet', 'ODVGDataset', False),
        ('mmseg', 'LoveDADataset', True),
        ('mmpretrain', 'InShop', False),
    ],
)
def test_what_has_a_miniature(library, kind, known):
    pytest.importorskip(library)
    with DATASETS.switch_scope_and_registry(library) as registry:
        assert (format_of(registry.get(kind)) is not None) == known


def test_rotated_boxes_and_keypoints(tmp_path):
    """The files of hosts that the tests do without: mmrotate and mmpose."""
    pictures = formats.Pictures([1], (96, 72))
    rotated = SimpleNamespace(
        metainfo=dict(classes=('ship', 'plane')),
        data_prefix=dict(img_path=tmp_path / 'images'),
        ann_file=tmp_path / 'boxes',
        img_suffix='png',
    )
    formats.write_rotated_boxes(rotated, pictures)
    _, shapes = pictures.draw(1)
    lines = (tmp_path / 'boxes' / f'{1:012d}.txt').read_text().splitlines()
    assert (tmp_path / 'images' / f'{1:012d}.png').exists() and len(lines) == len(shapes)
    for line, shape in zip(lines, shapes):
        *corners, name, difficulty = line.split()
        corners = np.array(corners, np.float32).reshape(4, 2)
        inside = [cv2.pointPolygonTest(corners, tuple(map(float, p)), True) for p in shape.polygon]
        assert min(inside) > -1 and name in rotated.metainfo['classes'] and difficulty == '0'
    posed = SimpleNamespace(
        metainfo=dict(num_keypoints=17),
        data_prefix=dict(img=tmp_path / 'images'),
        ann_file=tmp_path / 'annotations.json',
    )
    formats.write_keypoints(posed, pictures)
    for one in json.loads(posed.ann_file.read_text())['annotations']:
        left, top, width, height = one['bbox']
        points = np.reshape(one['keypoints'], (17, 3))
        assert (points[:, 2] == 2).all() and one['num_keypoints'] == 17
        assert (points[:, :2] >= [left - 0.01, top - 0.01]).all()
        assert (points[:, :2] <= [left + width + 0.01, top + height + 0.01]).all()
