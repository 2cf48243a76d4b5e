"""Mistakes that users make with their own data are found before the first step, in one line."""

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from mmdiffkd.apis.inputs import check_inputs
from mmdiffkd.datasets.config_checks import check_config
from mmdiffkd.datasets.data_checks import check_data, read_and_check
from mmdiffkd.errors import UserError
from mmdiffkd.models.configs import datasets_in

from .conftest import SIZE, picture

TRAIN, VAL = 'train_dataloader.dataset', 'val_dataloader.dataset'


def built(loader):
    return Runner.build_dataloader(loader).dataset


def check(cfg):
    """What a training does before its first step."""
    init_default_scope(cfg.default_scope)
    check_inputs(cfg)
    for key in ('train_dataloader', 'val_dataloader'):
        try:
            dataset = built(cfg[key])
        except Exception:
            check_config(cfg, [key])
            read_and_check(cfg, key)
            raise
        check_data(cfg, key, datasets_in(dataset, f'{key}.dataset'))


def message(cfg):
    with pytest.raises(UserError) as caught:
        check(cfg)
    text = str(caught.value)
    assert '\n' not in text
    # A smoke run, which looks at the files itself, says the same.
    with pytest.raises(UserError) as caught:
        check_inputs(cfg, smoke=True)
    return text


def edit_json(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize('task', ['detection', 'segmentation', 'classification'])
def test_nothing_is_said_of_what_is_right(task, request):
    cfg = request.getfixturevalue(task)
    check(cfg)
    assert check_inputs(cfg, smoke=True) == []
    # A wrapper does not hide what is inside, and a distiller has a student.
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset',
        datasets=[dict(type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset)],
    )
    teacher = dict(config=cfg.model, checkpoint='random')
    cfg.model = dict(type='mmdiffkd.DiffKDDistiller', student=cfg.model, teacher=teacher)
    check(cfg)
    cfg.train_dataloader.dataset.datasets[0].dataset.data_root = 'nowhere'
    assert message(cfg).startswith('train_dataloader.dataset.datasets[0].dataset.data_root: no f')


NAMES = 'bolt', 'nut', 'washer'


def both(**info):
    """The classes of both data sets."""
    return {f'{where}.metainfo': info for where in (TRAIN, VAL)}


@pytest.mark.parametrize(
    'changes, said',
    [
        ({'model.bbox_head.num_classes': 80}, 'model.bbox_head.num_classes is 80, but train_data'),
        ({'model.roi_head.mask_head.num_classes': 80}, 'model.roi_head.mask_head.num_classes is'),
        (both(classes=('bolt')), "as in classes=('bolt',)"),
        (both(classes=[dict(name='bolt')]), "must be a list of names, got [{'name': 'bolt'}]"),
        (both(classes=(*NAMES[:2], 'nut')), "list them so: 'bolt', 'nut'"),
        (both(_delete_=True, CLASSES=NAMES), "nothing reads 'CLASSES'; write 'classes'"),
        (both(classes=('bolt', 'nuts', 'washer')), "no category 'nuts'; its categories are 'bolt'"),
        (both(classes=('nut', 'bolt', 'washer')), "list them so: 'bolt', 'nut', 'washer'"),
        ({f'{VAL}.metainfo.classes': NAMES[::-1]}, 'in another order (number 0: bolt, washer)'),
        ({f'{TRAIN}.ann_file': 'trian.json'}, "did you mean 'train.json'"),
        ({f'{TRAIN}.data_prefix.img': 'trains/'}, f'{TRAIN}.data_prefix.img: no folder'),
        ({f'{TRAIN}.data_prefix.img': 'val/'}, 'look at the file, data_prefix and the names in'),
        ({f'{TRAIN}.data_root': 'bolts'}, f"{TRAIN}.data_root: no folder 'bolts' (looked from"),
        ({'val_evaluator.ann_file': 'val.json'}, "val_evaluator.ann_file: no file 'val.json'"),
        (
            {
                'train_cfg': dict(type='EpochBasedTrainLoop', max_epochs=1),
                'train_dataloader.sampler.type': 'InfiniteSampler',
            },
            'train_dataloader.sampler: an epoch of InfiniteSampler never ends',
        ),
    ],
)
def test_configs_of_detectors(changes, said, detection):
    detection.merge_from_dict(changes)
    assert said in message(detection)


@pytest.mark.parametrize(
    'number, said',
    [
        (3, 'is 3, but train_dataloader.dataset has 80 classes: person'),
        (80, "has no category 'person', 'bicycle'"),
    ],
)
def test_data_without_names(number, said, detection):  # fmt: skip
    del detection.train_dataloader.dataset['metainfo'], detection.val_dataloader.dataset['metainfo']
    detection.model.bbox_head.num_classes = number
    assert said in message(detection)


def without_boxes(content):
    content['annotations'] = []


def without_images(content):
    content.update(images=[], annotations=[])


def set_all(part, **values):
    def edit(content):
        for item in content[part]:
            item.update(values)

    return edit


def other_format(content):
    content.clear()


@pytest.mark.parametrize(
    'split, edit, said',
    [
        ('train', without_boxes, 'lists 2, and filter_cfg='),
        ('val', without_images, 'lists none'),
        ('val', without_boxes, 'has no box of the classes'),
        ('train', set_all('annotations', iscrowd=1), 'that is not marked as iscrowd'),
        ('val', set_all('annotations', category_id=3), 'have the category_id 3, which is none of'),
        ('train', other_format, "train.json': KeyError: "),
        ('train', set_all('annotations', bbox=(0, 0, 0.5, 0.5)), 'or none of at least one pixel'),
        ('train', set_all('annotations', bbox=(10, 5, 22, 14)), 'as left, top, width and height'),
        ('val', set_all('images', id=5), '2 images have the id 5'),
        ('train', set_all('images', width=16, height=24), "train.json' says (24, 16)"),
    ],
)
def test_files_of_boxes(split, edit, said, detection, tmp_path):
    edit_json(tmp_path / f'{split}.json', edit)
    text = message(detection)
    assert text.startswith(f'{split}_dataloader.dataset: ') and said in text


def test_a_metric_reads_another_split(detection, tmp_path):
    detection.val_evaluator.ann_file = str(tmp_path / 'train.json')
    assert message(detection).startswith('val_evaluator.ann_file: ')


@pytest.mark.parametrize(
    'changes, said',
    [
        (
            {'model.decode_head.num_classes': 3},
            'num_classes is 3, but train_dataloader.dataset has 2 classes',
        ),
        ({'model.auxiliary_head.num_classes': 1}, 'model.auxiliary_head.num_classes is 1, but'),
        ({'model.decode_head.out_channels': 19}, 'model.decode_head.out_channels is 19, but'),
        (
            {'model.decode_head.loss_decode': [dict(class_weight=[1.0] * 19)]},
            'the length of model.decode_head.loss_decode.class_weight is 19, but',
        ),
        ({f'{TRAIN}.seg_map_suffix': '_mask.png'}, 'file, data_prefix and seg_map_suffix'),
        ({f'{VAL}.img_suffix': '.jpeg'}, "ends in img_suffix='.jpeg'; files there end in .jpg"),
        (
            {f'{VAL}.reduce_zero_label': True},
            'the label maps looked at hold [0, 255] only (with reduce_z',
        ),
    ],
)
def test_configs_of_segmentors(changes, said, segmentation):
    segmentation.merge_from_dict(changes)
    assert said in message(segmentation)


@pytest.mark.parametrize(
    'values, said',
    [
        ((1, 2), 'has the label 2, but those of the classes are 0 to 1'),
        ((0, 255), 'hold [0, 255] only'),
        ((255, 255), 'hold [255] only'),
    ],
)
def test_label_maps(values, said, segmentation, tmp_path):
    for name, value in zip('ab', values):
        picture(tmp_path / 'maps' / 'val' / f'{name}.png', value)
    text = message(segmentation)
    assert text.startswith(f'{VAL}: ') and said in text
    # A label that the model ignores is none.
    segmentation.model.decode_head.ignore_index = values[1]
    if said.startswith('has'):
        check(segmentation)


@pytest.mark.parametrize(
    'shape, said',
    [
        ((16, 24, 3), 'is a colour picture'),
        ((24, 16), 'has the size (24, 16), and its image (16, 24)'),
    ],
)
def test_pictures_for_label_maps(shape, said, segmentation, tmp_path):
    cv2.imwrite(str(tmp_path / 'maps' / 'train' / 'a.png'), np.zeros(shape, np.uint8))
    assert f"maps/train/a.png' {said}" in message(segmentation)


@pytest.mark.parametrize('file', ['images/val/b.jpg', 'maps/val/b.png'])
def test_files_that_are_no_images(file, segmentation, tmp_path):
    (tmp_path / file).write_text('<html>not found</html>')
    assert f"{file}' cannot be loaded: " in message(segmentation)


def test_other_channels_of_heads(segmentation):
    for changes in (dict(out_channels=1), dict(out_channels=256, num_queries=100)):
        cfg = copy.deepcopy(segmentation)
        cfg.model.decode_head.update(changes)
        check_inputs(cfg)


@pytest.mark.parametrize(
    'file, edit, said',
    [
        ('maps/val/b.png', Path.unlink, '1 of 2 files are missing or empty, the first is '),
        ('images/train/b.jpg', lambda path: path.write_bytes(b''), '1 of 2 files are missing or e'),
        ('maps/val/b.png', lambda path: picture(path, 7), "maps/val/b.png' has the label 7, but"),
    ],
)
def test_files_that_are_not_among_the_first(file, edit, said, segmentation, tmp_path, monkeypatch):
    monkeypatch.setattr('mmdiffkd.datasets.data_checks._FILES', 1)
    edit(tmp_path / file)
    assert said in message(segmentation)


def test_images_of_several_sizes(segmentation, tmp_path):
    segmentation.data_preprocessor = dict(type='SegDataPreProcessor', size=SIZE[::-1])
    for key in ('train_dataloader', 'val_dataloader'):
        segmentation[key].dataset.pipeline.append(dict(type='PackSegInputs'))
    check(segmentation)
    for folder, suffix, shape in (('images', 'jpg', (8, 24, 3)), ('maps', 'png', (8, 24))):
        path = tmp_path / folder / 'val' / f'b.{suffix}'
        cv2.imwrite(str(path), np.zeros(shape, np.uint8))
    assert message(segmentation).startswith('val_dataloader: no batch can be made from 2 images')


@pytest.mark.parametrize(
    'changes, lines, said',
    [
        ({}, 'cat/1.jpg 1\ndog/1.jpg 2\n', "dog/1.jpg' has the label 2, but those of the"),
        ({}, 'cat/1.jpg 0\ndog/2.jpg 1\n', "dog/2.jpg' cannot be loaded: FileNotFound"),
        ({}, '', 'lists none'),
        # The folders of the validation are two.
        (
            {'model.head.num_classes': 3},
            'cat/1.jpg 0\n',
            'but val_dataloader.dataset has 2 classes',
        ),
        (
            {f'{TRAIN}.classes': ('dog', 'cat'), f'{TRAIN}.ann_file': ''},
            '',
            'in another order (number 0: dog, cat)',
        ),
        ({f'{TRAIN}.classes': 'cat'}, 'cat/1.jpg 0\n', f'{TRAIN}.metainfo.classes must be a list'),
    ],
)
def test_classifiers(changes, lines, said, classification, tmp_path):
    classification.merge_from_dict(changes)
    (tmp_path / 'train.txt').write_text(lines)
    assert said in message(classification)


@pytest.mark.parametrize('info', [None, dict(classes=('cat', 'dog'))])
def test_class_folders(info, classification, tmp_path):
    for where in (TRAIN, VAL):
        classification.merge_from_dict({f'{where}.ann_file': '', f'{where}.metainfo': info})
    check(classification)
    (tmp_path / 'val' / 'cat').rename(tmp_path / 'val' / 'tiger')
    assert f'the folders of {VAL} are not the same (number 0: cat, dog)' in message(classification)


@pytest.mark.parametrize('file, said', [(None, ''), ('a.jfif', ': its files end in .jfif')])
def test_class_folders_without_images(file, said, classification, tmp_path):
    classification.train_dataloader.dataset.ann_file = ''
    (tmp_path / 'train' / 'dog' / '1.jpg').unlink()
    if file:
        (tmp_path / 'train' / 'dog' / file).touch()
    assert f"train/dog', has no image{said}" in message(classification)


def test_number_of_classes_that_mixed_images_need(classification):
    classification.data_preprocessor = dict(num_classes=1000)
    check_inputs(classification)
    classification.model.train_cfg = dict(augments=[dict(type='Mixup', alpha=0.8)])
    assert message(classification).startswith('data_preprocessor.num_classes is 1000, but ')


def test_more_best_classes_than_there_are(classification):
    classification.val_evaluator = dict(type='Accuracy', topk=(1, 5))
    assert message(classification).startswith('val_evaluator.topk: the best 5 classes')


@pytest.mark.parametrize('key', ['config', 'checkpoint'])
def test_files_of_the_teacher(key, detection):
    teacher = {'config': detection.model, 'checkpoint': 'random', key: 'nowhere.py'}
    detection.model = dict(student=detection.model, teacher=teacher)
    assert message(detection).startswith(f'teacher.{key}: no file')


def test_what_a_smoke_run_does_not_look_at(detection, tmp_path, monkeypatch):
    """Data below `data` may be missing as a whole; a part of it may not."""
    monkeypatch.chdir(tmp_path)
    for key in (TRAIN, VAL):
        detection.merge_from_dict({f'{key}.data_root': 'data/bolts'})
    teacher = dict(config=detection.model, checkpoint='zoo')
    detection.model = dict(student=detection.model, teacher=teacher)
    assert check_inputs(detection, smoke=True) == [
        'your data, which the training needs: data/bolts is not there',
        'the published weights of model.teacher (zoo): the training downloads them',
    ]
    detection.model.teacher.checkpoint = 'work_dirs/teacher/best.pth'
    assert check_inputs(detection, smoke=True)[-1] == (
        "the teacher's weights, which the training needs: work_dirs/teacher/best.pth is not there"
    )
    (tmp_path / 'work_dirs' / 'teacher').mkdir(parents=True)
    with pytest.raises(UserError, match='teacher.checkpoint: no file'):
        check_inputs(detection, smoke=True)
    (tmp_path / 'data' / 'bolts').mkdir(parents=True)
    assert message(detection).startswith(f'{TRAIN}.')


def test_a_smoke_run_compares_the_teacher_with_its_file(toy_config, tmp_path):
    path = tmp_path / 'teacher.pth'
    torch.save(MODELS.build(dict(type='ToyModel', width=8)).state_dict(), path)
    teacher = dict(config=dict(type='ToyModel', width=8), checkpoint=str(path))
    cfg = Config(dict(model=dict(toy_config, teacher=teacher)))
    assert check_inputs(cfg, smoke=True) == []
    cfg.model.teacher.config.width = 16
    with pytest.raises(UserError, match='does not fit.*wrongly shaped'):
        check_inputs(cfg, smoke=True)


def test_every_process_reads_the_data(detection, tmp_path, monkeypatch):
    """None waits for another, which may have failed."""
    monkeypatch.setattr('mmengine.dist.utils.get_rank', lambda group=None: 1)
    edit_json(tmp_path / 'val.json', without_boxes)
    with pytest.raises(UserError, match='has no box of the classes'):
        check_inputs(detection, smoke=True)


def test_the_check_can_be_left_out(detection):
    detection.train_dataloader.dataset.data_root = 'nowhere'
    detection.check_data = False
    assert check_inputs(detection, smoke=True) == ['the data: the config has check_data=False']
