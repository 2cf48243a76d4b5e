"""What ``--smoke`` changes in a config; that changed configs run is tested in test_tools."""

import pytest
import torch
from mmengine.config import Config

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


def test_a_scheduler_without_unit_counts_epochs(smoke_config):
    cfg = smoke_config(param_scheduler=dict(type='CosineAnnealingLR', begin=5))
    assert cfg.param_scheduler.end == EPOCHS['max_epochs']


@pytest.mark.parametrize('has_gpu', [False, True])
def test_mixed_precision_needs_a_gpu(smoke_config, monkeypatch, has_gpu):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: has_gpu)
    optimizer = dict(type='SGD', lr=0.1)
    wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic', dtype='float16')
    cfg = smoke_config(optim_wrapper=dict(wrapper, optimizer=optimizer, clip_grad=dict(max_norm=1)))
    kept = dict(optimizer=optimizer, clip_grad=dict(max_norm=1))
    expected = dict(kept, **wrapper) if has_gpu else dict(kept, type='OptimWrapper')
    assert cfg.optim_wrapper == expected


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
