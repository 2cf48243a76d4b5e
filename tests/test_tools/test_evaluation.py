"""What tools/test.py evaluates, on the toy models."""

import importlib.util
import sys

import pytest
import torch
from mmengine.registry import MODELS

from tests.conftest import MeanLogit

from ..toy_run import toy_run
from .conftest import ROOT


def test_it_is_the_file_given_and_not_what_a_training_starts_from(
    toy_config, tmp_path, monkeypatch
):
    student = MODELS.build(toy_config['student'])
    student.head.cls.weight.data.zero_()
    student.head.cls.bias.data.fill_(7.0)
    torch.save(student.state_dict(), tmp_path / 'student.pth')
    torch.save(MODELS.build(toy_config['student']).state_dict(), tmp_path / 'start.pth')
    cfg = toy_run(toy_config, tmp_path / 'run', load_from=str(tmp_path / 'start.pth'))
    evaluator = dict(type=MeanLogit.__name__)
    cfg.update(test_dataloader=cfg.train_dataloader, test_cfg={}, test_evaluator=evaluator)
    cfg.dump(tmp_path / 'config.py')
    spec = importlib.util.spec_from_file_location('tool', ROOT / 'tools' / 'test.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    metrics = []
    compute = MeanLogit.compute_metrics
    monkeypatch.setattr(
        MeanLogit,
        'compute_metrics',
        lambda self, results: metrics.append(compute(self, results)) or metrics[-1],
    )
    monkeypatch.setattr(
        sys, 'argv', ['', str(tmp_path / 'config.py'), str(tmp_path / 'student.pth')]
    )
    tool.main()
    assert metrics[0]['mean'] == pytest.approx(7.0)
