"""What ``--smoke`` changes in a config; that changed configs run is tested in test_tools."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from mmdiffkd.testing import make_smoke_config

EPOCHS = dict(type='EpochBasedTrainLoop', max_epochs=300, val_interval=1)
ITERATIONS = dict(type='IterBasedTrainLoop', max_iters=90000, val_interval=5000)


@pytest.fixture
def smoke_config(tmp_path):
    pytest.importorskip('mmdet')

    def make(**parts):
        whole = dict(
            work_dir=str(tmp_path),
            model=dict(type='Detector'),
            train_dataloader=dict(
                batch_size=8, dataset=dict(type='mmdet.CocoDataset', pipeline=[])
            ),
            train_cfg=EPOCHS,
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(checkpoint=dict(interval=10), logger=dict(interval=50)),
        )
        return make_smoke_config(Config({**whole, **parts}))

    return make


@pytest.mark.parametrize(
    'train_cfg, by_epoch, expected',
    [
        (EPOCHS, True, 300),
        (ITERATIONS, False, 90000),
        # How many iterations the epochs would have had is not known here.
        (EPOCHS, False, 10**9),
    ],
)
def test_schedulers_end_where_the_whole_training_does(smoke_config, train_cfg, by_epoch, expected):
    """A cosine that begins after 20 epochs of warm-up must not end with the one epoch."""
    warm_up = dict(type='LinearLR', start_factor=0.1, by_epoch=by_epoch, end=20)
    cosine = dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=by_epoch, begin=20)
    cfg = smoke_config(train_cfg=train_cfg, param_scheduler=[warm_up, cosine])
    assert [scheduler.end for scheduler in cfg.param_scheduler] == [20, expected]
    assert cfg.train_cfg.get('max_epochs', cfg.train_cfg.get('max_iters')) <= 2


def test_mixed_precision_needs_a_gpu(smoke_config, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    kept = dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(max_norm=1))
    wrapper = dict(kept, type='AmpOptimWrapper', loss_scale='dynamic', dtype='float16')
    assert smoke_config(optim_wrapper=wrapper).optim_wrapper == dict(kept, type='OptimWrapper')


def test_nothing_is_resumed(smoke_config):
    cfg = smoke_config(resume='epoch_12.pth', load_from='other.pth')
    assert not cfg.resume and cfg.load_from is None


def test_a_model_made_for_one_size_gets_it(smoke_config):
    crop = dict(type='RandomCrop', crop_size=(640, 640))
    dataset = dict(type='mmdet.CocoDataset', pipeline=[crop])
    model = dict(type='Detector', backbone=dict(type='BEiT', img_size=(512, 512)))
    cfg = smoke_config(model=model, train_dataloader=dict(batch_size=8, dataset=dataset))
    assert cfg.train_dataloader.dataset.pipeline[0].crop_size == (512, 512)


def test_segmentors_are_validated_at_the_size_of_their_crops(smoke_config):
    """U-Net takes no image that its strides do not divide."""
    resize = dict(type='Resize', scale=(2048, 1024), keep_ratio=True)
    dataset = dict(type='mmdet.CocoDataset', pipeline=[resize])
    for scope, size, keeps in (('mmdet', (192, 192), True), ('mmseg', (128, 128), False)):
        cfg = smoke_config(default_scope=scope, val_dataloader=dict(dataset=dataset))
        expected = dict(resize, scale=size, keep_ratio=keeps)
        assert cfg.val_dataloader.dataset.pipeline == [expected]


def test_distillation_starts_at_once(smoke_config):
    hook = dict(
        type='mmdiffkd.DistillationScheduleHook',
        begin=20,
        end=30,
        pairs=dict(logits=dict(begin=25, warmup=dict(length=2))),
    )
    cfg = smoke_config(custom_hooks=[dict(type='EMAHook', begin_epoch=1), hook])
    del hook['begin'], hook['pairs']['logits']['begin']
    assert cfg.custom_hooks == [dict(type='EMAHook', begin_epoch=1), hook]


def test_a_loop_is_known_by_its_length(smoke_config):
    """Its type may be left out or a class; nothing puts the validation off."""
    later = dict(val_interval=100, val_begin=50, dynamic_intervals=[(900, 10)])
    for kind in ({}, dict(by_epoch=False), dict(type=IterBasedTrainLoop)):
        train_cfg = smoke_config(train_cfg=dict(kind, max_iters=1000, **later)).train_cfg
        assert train_cfg == dict(kind, max_iters=2, val_interval=2)
    train_cfg = smoke_config(
        train_cfg=dict(type=EpochBasedTrainLoop, max_epochs=9, **later)
    ).train_cfg
    assert train_cfg == dict(type=EpochBasedTrainLoop, max_epochs=1, val_interval=1)


def test_metrics_read_the_annotations_of_their_data_set(smoke_config):
    one = dict(type='mmdet.CocoDataset', pipeline=[], ann_file='elsewhere.json')
    metric = dict(type='mmdet.CocoMetric', ann_file='elsewhere.json')
    cfg = smoke_config(
        val_dataloader=dict(dataset=dict(type='mmdet.ConcatDataset', datasets=[one, one])),
        val_evaluator=dict(type='mmdet.MultiDatasetsEvaluator', metrics=[metric, metric]),
        test_dataloader=dict(dataset=one),
        test_evaluator=[metric, dict(metric)],
    )
    files = [metric.ann_file for metric in cfg.val_evaluator.metrics]
    assert len(set(files)) == 2 and all(Path(file).is_file() for file in files)
    assert len({Path(metric.ann_file) for metric in cfg.test_evaluator}) == 1


def test_detectors_detect_something(smoke_config):
    """Otherwise their metrics end before they have looked at the boxes."""
    test_cfg = dict(rpn=dict(max_per_img=10), rcnn=dict(score_thr=0.05))
    cfg = smoke_config(model=dict(type='Detector', test_cfg=test_cfg))
    assert cfg.model.test_cfg == dict(rpn=dict(max_per_img=10), rcnn=dict(score_thr=0.0))
