"""One validation of the teacher, and a training that does not notice."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.registry import METRICS

from mmdiffkd.errors import ConfigError
from tests.test_engine.conftest import ToyImages

CHECK = dict(type='mmdiffkd.TeacherCheckHook')


@pytest.fixture
def validation():
    """The validation's part of a runner's arguments."""
    sampler = dict(type='DefaultSampler', shuffle=False)
    loader = dict(dataset=ToyImages(number=6, noise=0.0), batch_size=2, num_workers=0)
    evaluator = dict(type='MeanLogit')
    return dict(val_dataloader=dict(loader, sampler=sampler), val_evaluator=evaluator, val_cfg={})


def log_of(runner):
    return next(Path(runner.work_dir).rglob('*.log')).read_text()


def scalars_of(runner, name='scalars.json'):
    (path,) = Path(runner.work_dir).rglob(name)
    return [json.loads(line) for line in path.read_text().splitlines()]


def state_of(runner):
    return {key: value.clone() for key, value in runner.model.state_dict().items()}


def test_metrics_are_the_teacher_s(make_runner, validation, toy_config):
    """Prepared as the teacher wants it, and shown in the log and to the visualizer."""
    toy_config['teacher']['config']['data_preprocessor'] = dict(
        type='ImgDataPreprocessor', mean=[0.5] * 3, std=[2.0] * 3
    )
    toy_config['student_input'] = dict(mean=[0] * 3, std=[1] * 3, rgb=False)
    runner = make_runner(CHECK, **validation)
    teacher = runner.model.teacher.model
    runner.train()
    images = (ToyImages(number=6, noise=0.0).images - 0.5) / 2
    expected = float(teacher(images)[0].mean())
    first = scalars_of(runner)[0]
    assert first == {'teacher/toy/mean': pytest.approx(expected, rel=1e-4), 'step': 0}
    assert scalars_of(runner, f'{runner.timestamp}.json')[0] == first
    assert 'Teacher check: toy/mean: ' in log_of(runner)


@pytest.mark.parametrize('workers', [0, pytest.param(1, marks=pytest.mark.slow)])
def test_training_is_the_same_to_the_last_bit(make_runner, validation, workers):
    """Weights, log, validation and best checkpoint; a worker that persists has a seed, too."""
    validation['val_dataloader'].update(num_workers=workers, persistent_workers=workers > 0)
    validation['val_dataloader']['dataset'] = ToyImages(number=6)
    best = dict(type='CheckpointHook', save_best='toy/mean', rule='less')
    runs = []
    for hooks in ([], [CHECK]):
        runner = make_runner(*hooks, name=f'run_{len(hooks)}', **validation)
        runner.register_hook(best)
        runner.train()
        runs.append(runner)
    without, checked = runs
    expected = state_of(without)
    assert all(torch.equal(value, expected[key]) for key, value in state_of(checked).items())
    means = [[line.get('toy/mean') for line in scalars_of(run)] for run in (without, checked)]
    assert [None, *means[0]] == means[1]
    names = [sorted(p.name for p in Path(r.work_dir).glob('*.pth')) for r in runs]
    assert names[0] == names[1] and [name for name in names[0] if name.startswith('best')]


@pytest.mark.parametrize(
    ('metrics', 'warning'),
    [
        (dict(top1=34.0), 'accuracy/top1 of the teacher is 34, not better than a guess'),
        (dict(top1=60.0), None),
        (dict(top1=1.0, random=True), 'the teacher has random weights, so its metrics mean'),
        ({}, 'the evaluation of its predictions has no metrics'),
    ],
)
def test_poor_teacher_is_warned_of(
    make_runner, validation, monkeypatch, toy_config, metrics, warning
):
    """mmdet's evaluation has no metrics if nothing was detected."""
    if 'random' in metrics:
        toy_config['teacher']['checkpoint'] = 'random'
    monkeypatch.setattr(METRICS.get('MeanLogit'), 'default_prefix', 'accuracy')
    monkeypatch.setattr(METRICS.get('MeanLogit'), 'compute_metrics', lambda *_: metrics)
    runner = make_runner(CHECK, train_cfg=dict(by_epoch=True, max_epochs=1), **validation)
    runner.train()
    log = log_of(runner)
    assert warning in log if warning else 'guess' not in log


def test_validation_is_needed(make_runner):
    with pytest.raises(ConfigError, match='--check-teacher. needs val_dataloader.* got NoneType'):
        make_runner(CHECK).train()
