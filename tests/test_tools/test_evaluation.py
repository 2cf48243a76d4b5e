"""What tools/test.py evaluates, on the toy models."""

import re

import torch
from mmengine.registry import MODELS

from tests.toy_run import toy_run


def test_it_is_the_file_given_and_not_what_a_training_starts_from(toy_config, tmp_path, run_here):
    student = MODELS.build(toy_config['student'])
    torch.save(student.state_dict(), tmp_path / 'start.pth')
    student.head.cls.weight.data.zero_()
    student.head.cls.bias.data.fill_(7.0)
    torch.save(student.state_dict(), tmp_path / 'student.pth')
    cfg = toy_run(toy_config, tmp_path / 'run', load_from=str(tmp_path / 'start.pth'))
    evaluator = dict(type='MeanLogit')
    cfg.update(test_dataloader=cfg.train_dataloader, test_cfg={}, test_evaluator=evaluator)
    cfg.dump(tmp_path / 'config.py')
    output = run_here('tools/test.py', tmp_path / 'config.py', tmp_path / 'student.pth')
    assert re.search(r'toy/mean: 7\.0', output)
