"""What would make a training worthless ends it, or is a warning that is seen, once.

Elsewhere: features that overflow (tests/test_engine), pairs behind frozen modules
(tests/test_models/test_distiller.py).
"""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS

from mmdiffkd.apis import build_runner
from mmdiffkd.apis.launch import warn_of_a_student_from_scratch
from mmdiffkd.errors import CheckpointError, ConfigError

from .toy_run import toy_run


@pytest.fixture(autouse=True)
def no_compilers(monkeypatch):
    # It runs compilers to ask for their versions.
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)


@pytest.fixture
def lines():
    """What is logged, as (level, text)."""
    collected = []

    class Collector(logging.Handler):
        def emit(self, record):
            collected.append((record.levelname, record.getMessage()))

    # Loggers come into being with each run.
    handle = MMLogger.handle
    collector = Collector()

    def both(self, record):
        collector.emit(record)
        handle(self, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MMLogger, 'handle', both)
        MMLogger.get_instance('nothing_silent')
        yield collected


def warnings_in(lines, *words):
    found = [text for level, text in lines if level == 'WARNING']
    return [text for text in found if all(word in text for word in words)]


# Pairs that contribute nothing.


def test_no_pairs(toy_config):
    toy_config['pairs'] = {}
    with pytest.raises(ConfigError, match='pairs must be a dict with at least one pair'):
        MODELS.build(toy_config)


def test_pair_of_no_weight(toy_config, lines):
    toy_config['pairs']['fpn']['loss']['loss_weight'] = 0
    MODELS.build(toy_config)
    (text,) = warnings_in(lines, 'learns nothing from this pair')
    assert text.startswith('pairs.fpn: ') and 'loss_weight' in text


class Detached(torch.nn.Module):
    def forward(self, refined, target):
        return (refined.detach() - target).square().mean()


def test_pair_whose_loss_detaches(toy_config, lines):
    toy_config['pairs']['stem']['loss'] = dict(type=Detached)
    MODELS.build(toy_config)
    (text,) = warnings_in(lines, 'learns nothing from this pair')
    assert text.startswith('pairs.stem: ')


def test_pairs_that_teach_are_not_suspected(toy_config, lines):
    toy_config['pairs']['dist'] = dict(
        student='head.cls', teacher='head.cls', loss=dict(type='DISTLoss')
    )
    MODELS.build(toy_config)
    assert warnings_in(lines, 'learns nothing') == []


# Teachers.


def test_random_teacher(toy_config, lines):
    toy_config['teacher']['checkpoint'] = 'random'
    MODELS.build(toy_config)
    assert len(warnings_in(lines, 'teacher has random weights')) == 1


def test_teacher_with_parts_that_are_random(toy_config, lines):
    path = toy_config['teacher']['checkpoint']
    weights = torch.load(path)['state_dict']
    del weights['head.cls.bias']
    torch.save(weights, path)
    toy_config['teacher']['ignore_keys'] = ['head']
    MODELS.build(toy_config)
    assert len(warnings_in(lines, 'stay random', 'head.cls.bias')) == 1


# What the student starts from.


def start(cfg):
    """Build a run and load what it starts from, without an iteration."""
    cfg.train_cfg.max_epochs = 0
    runner = build_runner(cfg)
    runner.train()
    return runner


def test_plain_student_loads_without_a_word_of_what_is_expected(toy_config, lines, tmp_path):
    torch.save(MODELS.build(toy_config['student']).state_dict(), tmp_path / 'student.pth')
    start(toy_run(toy_config, tmp_path / 'run', load_from=str(tmp_path / 'student.pth')))
    assert warnings_in(lines, 'student.pth') == []
    assert warnings_in(lines, 'do not match exactly') == []
    assert sum('the heads of the pairs start anew' in text for _, text in lines) == 1


def test_student_s_weights_that_were_not_loaded(toy_config, lines, tmp_path):
    weights = MODELS.build(dict(type='ToyModel', num_classes=5)).state_dict()
    del weights['neck.convs.0.weight']
    weights['fc.bias'] = torch.ones(1)
    torch.save(dict(state_dict=weights), tmp_path / 'student.pth')
    start(toy_run(toy_config, tmp_path / 'run', load_from=str(tmp_path / 'student.pth')))
    (text,) = warnings_in(lines, 'student.pth')
    assert '1 missing: student.neck.convs.0.weight' in text
    assert '2 that could not be copied: student.head.cls.weight, student.head.cls.bias' in text
    assert '1 in the file that have no place: student.fc.bias' in text
    assert 'distill' not in text and 'pairs' not in text
    assert warnings_in(lines, 'do not match exactly') == []


def test_checkpoint_of_another_model(toy_config, tmp_path):
    torch.save(dict(state_dict=dict(other=torch.ones(1))), tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match='other.pth.* has none of the weights of DiffKDDist'):
        start(toy_run(toy_config, tmp_path / 'run', load_from=str(tmp_path / 'other.pth')))


@pytest.mark.parametrize(
    'init_cfg, message',
    [
        (dict(checkpoint='nowhere.pth'), "checkpoint 'nowhere.pth' was not found"),
        (dict(checkpoint=None), 'checkpoint must be a path, .* got None'),
        (dict(checkpoint='http://127.0.0.1:9/a.pth'), r'a\.pth cannot be downloaded'),
        (dict(checkpoint='torchvision://resnet5'), "its library has no weights called 'resnet5'"),
        (dict(checkpoint='{toy}'), 'has none of the weights of Stem'),
        (dict(checkpoint='{toy}', prefix='body'), "no weights under the prefix 'body'"),
    ],
    ids=lambda value: value['checkpoint'] if isinstance(value, dict) else '',
)
def test_pretrained_weights_that_are_not_there(init_cfg, message, toy_config, tmp_path):
    if init_cfg['checkpoint'] == '{toy}':
        init_cfg = dict(init_cfg, checkpoint=str(tmp_path / 'toy.pth'))
        torch.save(MODELS.build(dict(type='ToyModel')).state_dict(), init_cfg['checkpoint'])
    init_cfg = dict(type='Pretrained', **init_cfg)
    toy_config['student'] = dict(type='PretrainedToy', backbone_init_cfg=init_cfg)
    with pytest.raises(CheckpointError, match=message):
        start(toy_run(toy_config, tmp_path / 'run'))


def test_student_from_scratch(toy_config, lines, tmp_path):
    """Legitimate, and also what a path lost from a config looks like."""
    words = 'The student starts from random weights'
    warn_of_a_student_from_scratch(toy_run(toy_config, tmp_path / 'run'))
    assert len(warnings_in(lines, words)) == 1
    path = str(tmp_path / 'toy.pth')
    warn_of_a_student_from_scratch(toy_run(toy_config, tmp_path / 'run', load_from=path))
    init_cfg = dict(type='Pretrained', checkpoint=path)
    toy_config['student'] = dict(type='PretrainedToy', width=8, init_cfg=init_cfg)
    warn_of_a_student_from_scratch(toy_run(toy_config, tmp_path / 'run'))
    assert len(warnings_in(lines, words)) == 1
