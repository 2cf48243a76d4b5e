"""Small data sets of a user, and what is said about a config with them."""

import copy
import gc
import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config

SIZE = (24, 16)  # width and height of all pictures
LOADER = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))


@pytest.fixture(autouse=True)
def without_old_garbage():
    """mmengine's data sets collect garbage: among all modules that takes long."""
    gc.freeze()
    yield
    gc.unfreeze()


def picture(path, value=127):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = SIZE[::-1] if path.suffix == '.png' else (*SIZE[::-1], 3)
    cv2.imwrite(str(path), np.full(shape, value, np.uint8))


def boxes(root, split, first, names=('bolt', 'nut', 'washer')):
    """Two pictures with a box of each class in COCO's format."""
    numbers = range(first, first + 2)
    images = [dict(id=n, file_name=f'{n}.jpg', width=SIZE[0], height=SIZE[1]) for n in numbers]
    annotations = [
        dict(id=10 * n + c, image_id=n, category_id=c, bbox=[2, 2, 8, 9], area=72, iscrowd=0)
        for n in numbers
        for c in range(len(names))
    ]
    categories = [dict(id=c, name=name) for c, name in enumerate(names)]
    for n in numbers:
        picture(root / split / f'{n}.jpg')
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / f'{split}.json').write_text(json.dumps(content))


@pytest.fixture
def detection(tmp_path):
    """A detector's config with data of three classes, which is right."""
    pytest.importorskip('mmdet')
    for split, first in (('train', 1), ('val', 5)):
        boxes(tmp_path, split, first)
    loaders = {
        f'{split}_dataloader': dict(
            LOADER,
            dataset=dict(
                type='CocoDataset',
                data_root=str(tmp_path),
                ann_file=f'{split}.json',
                data_prefix=dict(img=f'{split}/'),
                metainfo=dict(classes=('bolt', 'nut', 'washer')),
                filter_cfg=dict(filter_empty_gt=True) if split == 'train' else None,
                test_mode=split == 'val',
                pipeline=[dict(type='LoadImageFromFile'),
                          dict(type='LoadAnnotations', with_bbox=True)],
            ),
        )
        for split in ('train', 'val')
    }  # fmt: skip
    head = dict(type='RetinaHead', num_classes=3)
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(type='RetinaNet', bbox_head=head),
            val_evaluator=dict(type='CocoMetric', ann_file=str(tmp_path / 'val.json')),
            **copy.deepcopy(loaders),
        )
    )


@pytest.fixture
def segmentation(tmp_path):
    """A segmentor's config with data of two classes, which is right."""
    pytest.importorskip('mmseg')
    loaders = {}
    for split in ('train', 'val'):
        for name in 'ab':
            picture(tmp_path / 'images' / split / f'{name}.jpg')
            picture(tmp_path / 'maps' / split / f'{name}.png', value='ab'.index(name))
        loaders[f'{split}_dataloader'] = dict(
            LOADER,
            dataset=dict(
                type='BaseSegDataset',
                data_root=str(tmp_path),
                data_prefix=dict(img_path=f'images/{split}', seg_map_path=f'maps/{split}'),
                metainfo=dict(classes=('ground', 'crack')),
                pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')],
            ),
        )
    head = dict(type='FCNHead', num_classes=2)
    model = dict(type='EncoderDecoder', decode_head=head, auxiliary_head=dict(num_classes=5))
    return Config(dict(default_scope='mmseg', model=model, val_evaluator={}, **loaders))


@pytest.fixture
def classification(tmp_path):
    """A classifier's config, whose training data is listed and whose other data is in folders."""
    pytest.importorskip('mmpretrain')
    for split in ('train', 'val'):
        for name in ('cat', 'dog'):
            picture(tmp_path / split / name / '1.jpg')
    (tmp_path / 'train.txt').write_text('cat/1.jpg 0\ndog/1.jpg 1\n')
    pipeline = [dict(type='LoadImageFromFile')]
    common = dict(type='CustomDataset', data_root=str(tmp_path), pipeline=pipeline)
    train = dict(common, data_prefix='train', ann_file='train.txt')
    model = dict(type='ImageClassifier', head=dict(type='LinearClsHead', num_classes=2))
    return Config(
        dict(
            default_scope='mmpretrain',
            model=model,
            train_dataloader=dict(LOADER, dataset=train),
            val_dataloader=dict(LOADER, dataset=dict(common, data_prefix='val')),
            val_evaluator={},
        )
    )
