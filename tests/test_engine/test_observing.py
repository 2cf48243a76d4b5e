"""Hooks that look at pairs: what they write, and that training does not notice."""

import json
import sys
import uuid
from pathlib import Path
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmdiffkd.engine.hooks import FeaturePictureHook, TelemetryHook
from mmdiffkd.engine.hooks.feature_pictures import _pixels
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.probing import probe

PICTURES = dict(type='mmdiffkd.FeaturePictureHook', interval=3, num_images=2)
TELEMETRY = dict(type='mmdiffkd.TelemetryHook', interval=2)
BALANCE = dict(type='mmdiffkd.PullBalanceHook', iterations=99)
PAIRS = ('fpn', 'stem', 'logits')


@pytest.fixture
def train(toy_config, tmp_path):
    """Train the toy student; returns the runner."""

    def train_toy(*hooks, model=toy_config, **settings):
        torch.manual_seed(0)
        images = [dict(inputs=torch.randn(3, 16, 24)) for _ in range(6)]
        sampler = dict(type='DefaultSampler', shuffle=True)
        name = uuid.uuid4().hex
        runner = Runner(
            model=model,
            work_dir=str(tmp_path / name),
            experiment_name=name,
            train_dataloader=dict(dataset=images, batch_size=3, sampler=sampler),
            train_cfg=dict(by_epoch=False, max_iters=4),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
            log_processor=dict(by_epoch=False),
            custom_hooks=list(hooks),
            randomness=dict(seed=1),
            **settings,
        )
        runner.train()
        return runner

    return train_toy


def scalars(runner):
    path = Path(runner.log_dir, 'vis_data', 'scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_training_is_the_same_to_the_last_bit(train, toy_config):
    toy_config['pairs']['fpn']['head']['checkpoint'] = True
    average = dict(type='EMAHook', momentum=0.5)
    plain = train(average)
    state = torch.get_rng_state(), np.random.get_state()[1]
    watched = train(dict(PICTURES, interval=99, num_images=1), TELEMETRY, BALANCE, average)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])
    expected = plain.model.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in watched.model.state_dict().items())
    losses = [[line['loss'] for line in scalars(r) if 'loss' in line] for r in (plain, watched)]
    assert losses[0] == losses[1] and len(losses[0]) == 4


def test_pictures_of_every_pair(train):
    runner = train(PICTURES)
    folder = Path(runner.log_dir, 'vis_data', 'vis_image')
    assert {path.name for path in folder.iterdir()} == {
        f'pair_{pair}_{step}.png' for pair in PAIRS for step in (1, 3)
    }
    heights = {pair: cv2.imread(folder / f'pair_{pair}_3.png').shape[0] for pair in PAIRS}
    assert heights['fpn'] > heights['stem'] + 150  # two levels of two images instead of one


def test_mlflow_gets_pictures_and_scalars(train, tmp_path, monkeypatch):
    """Of a faked MLflow, whose server refuses the pictures, which must not end the training."""
    mlflow = MagicMock(MlflowException=OSError)
    mlflow.log_image.side_effect = OSError
    monkeypatch.setitem(sys.modules, 'mlflow', mlflow)
    backend = dict(type='MLflowVisBackend', tracking_uri='sqlite:///mlflow.db')
    visualizer = dict(type='Visualizer', vis_backends=[backend])
    train(PICTURES, TELEMETRY, visualizer=visualizer, cfg=dict(work_dir=str(tmp_path)))
    expected = [dict(key=f'pair_{pair}', step=step) for step in (1, 3) for pair in PAIRS]
    assert [call.kwargs for call in mlflow.log_image.call_args_list] == expected
    assert all(call.args[0].dtype == np.uint8 for call in mlflow.log_image.call_args_list)
    (last, step), _ = mlflow.log_metrics.call_args
    assert step == 4 and {'pull_fpn', 'agreement_fpn', 'gamma_fpn/level_1'} < last.keys()


def test_telemetry_has_every_level(train):
    runner = train(TELEMETRY)
    lines = scalars(runner)
    levels = {line['iter']: line for line in lines if 'gamma_fpn/level_0' in line}
    means = {line['iter']: line for line in lines if 'loss' in line}
    assert list(levels) == [1, 2, 4] and list(means) == [1, 2, 3, 4]
    for step, line in levels.items():
        for name in ('gamma_fpn', 'dist_before_fpn', 'dist_after_fpn', 'dist_after_logits'):
            values = [line[f'{name}/level_{level}'] for level in (0, 1)]
            assert np.mean(values) == pytest.approx(means[step][name]), name
        assert 'gamma_stem/level_0' not in line
        assert all(line[f'pull_{pair}'] > 0 > abs(line[f'agreement_{pair}']) - 1 for pair in PAIRS)


def test_pair_that_does_not_run_is_left_out(train):
    """A schedule may stop the distillation."""
    schedule = dict(type='mmdiffkd.DistillationScheduleHook', begin=4, by_epoch=False)
    runner = train(PICTURES, TELEMETRY, schedule)
    assert not Path(runner.log_dir, 'vis_data', 'vis_image').exists()
    assert not [
        line for line in scalars(runner) if any('level' in name or 'pull' in name for name in line)
    ]


def test_images_as_they_were_loaded():
    """BGR to RGB, and the normalisation undone."""
    loaded = torch.zeros(1, 3, 2, 2)
    loaded[:, 0] = 255  # blue
    for to_rgb in (False, True):
        settings = dict(mean=[10.0, 20.0, 30.0], std=[2.0, 3.0, 4.0], bgr_to_rgb=to_rgb)
        preprocessor = MODELS.build(dict(type='ImgDataPreprocessor', **settings))
        inputs = preprocessor(dict(inputs=list(loaded)))['inputs']
        assert _pixels(inputs, probe(None, preprocessor, 3).format)[0, 0, 0].tolist() == [0, 0, 255]
    grey = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    assert _pixels(grey, None).tolist() == [[[[0, 0, 0], [255, 255, 255]]]]


def test_wrong_settings(train, toy_config):
    with pytest.raises(ConfigError, match='interval must be an integer from 1, got 0'):
        FeaturePictureHook(interval=0)
    with pytest.raises(ConfigError, match='mmdiffkd.DiffKDDistiller, got ToyModel'):
        train(TelemetryHook(), model=toy_config['student'])
