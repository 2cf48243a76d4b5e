"""What stands for the data of a host's config in a smoke run."""

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

from mmdiffkd.testing import make_smoke_config
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
        ('mmdet', 'LVISV1Dataset', False),
        ('mmdet', 'VOCDataset', False),
        ('mmseg', 'LoveDADataset', True),
        ('mmpretrain', 'InShop', False),
    ],
)
def test_what_has_a_miniature(library, kind, known):
    pytest.importorskip(library)
    with DATASETS.switch_scope_and_registry(library) as registry:
        assert (format_of(registry.get(kind)) is not None) == known
