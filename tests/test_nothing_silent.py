"""What would make a training worthless ends it, or is a warning that is seen, once."""

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from torch import nn

from mmdiffkd.apis import build_runner
from mmdiffkd.apis.launch import warn_of_a_student_from_scratch
from mmdiffkd.errors import CheckpointError
from mmdiffkd.models import DistillPair
from mmdiffkd.models.pair_checks import check_teaches

from .toy_run import toy_run


@pytest.fixture(autouse=True)
def no_compilers(monkeypatch):
    # It runs compilers to ask for their versions.
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)


@pytest.fixture
def lines(monkeypatch):
    """What is logged, as (level, text)."""
    collected = []
    # Loggers come into being with each run.
    monkeypatch.setattr(
        MMLogger, 'handle', lambda _, log: collected.append((log.levelname, log.getMessage()))
    )
    MMLogger.get_instance('nothing_silent')
    return collected


def warnings_in(lines, *words):
    found = [text for level, text in lines if level == 'WARNING']
    return [text for text in found if all(word in text for word in words)]


def test_pair_of_no_weight(toy_config, lines):
    toy_config['pairs']['fpn']['loss']['loss_weight'] = 0
    MODELS.build(toy_config)
    (text,) = warnings_in(lines, 'learns nothing from this pair')
    assert text.startswith('pairs.fpn: ') and 'loss_weight' in text


def test_scores_that_a_blank_image_makes_alike(lines):
    """A distance may have no slope at them, which says nothing of real images."""
    cfg = dict(student='head', teacher='head', loss=dict(type='DISTLoss'))
    scores = [torch.zeros(1, 3, 4, 4)]
    pair = DistillPair('logits', cfg, nn.Identity())
    check_teaches(pair, dict(head=scores), scores, torch.zeros(1, 3, 8, 8))
    assert warnings_in(lines, 'learns nothing') == []


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


@pytest.mark.parametrize(
    ('location', 'message'),
    [
        ('other.pth', r'other.pth. has none of the weights of DiffKDDistiller'),
        ('nowhere.pth', "checkpoint: no file 'nowhere.pth'"),
    ],
)
def test_weights_that_are_not_there(location, message, toy_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict=dict(other=torch.ones(1))), 'other.pth')
    with pytest.raises(CheckpointError, match=message):
        start(toy_run(toy_config, tmp_path / 'run', load_from=location))


def test_student_from_scratch(toy_config, lines, tmp_path):
    """Legitimate, and also what a path lost from a config looks like."""
    words = 'The student starts from random weights'
    warn_of_a_student_from_scratch(toy_run(toy_config, tmp_path / 'run'))
    assert warnings_in(lines, words) == []  # usual for a model without a head in its config
    toy_config['student']['bbox_head'] = {}
    warn_of_a_student_from_scratch(toy_run(toy_config, tmp_path / 'run'))
    assert len(warnings_in(lines, words)) == 1
    path = str(tmp_path / 'toy.pth')
    warn_of_a_student_from_scratch(toy_run(toy_config, tmp_path / 'run', load_from=path))
    init_cfg = dict(type='Pretrained', checkpoint=path)
    toy_config['student'] = dict(type='PretrainedToy', bbox_head={}, init_cfg=init_cfg)
    warn_of_a_student_from_scratch(toy_run(toy_config, tmp_path / 'run'))
    assert len(warnings_in(lines, words)) == 1
