"""The lines of a training in the terminal."""

import re

import pytest
from mmengine.hooks import LoggerHook

from mmdiffkd.apis import train

from ..toy_run import toy_run


@pytest.mark.parametrize(
    'counted, expected',
    [
        (dict(by_epoch=True, max_epochs=1), '3/4 4/4'),
        (dict(by_epoch=False, max_iters=5), '3/5 5/5'),
    ],
)
def test_interval_and_end_are_shown(counted, expected, toy_config, tmp_path, capsys):
    logging = dict(logger=dict(type=LoggerHook, interval=3))
    cfg = toy_run(toy_config, tmp_path, default_hooks=logging, terminal_level='WARNING')
    cfg.train_cfg = counted
    cfg.log_processor = dict(by_epoch=counted['by_epoch'])
    cfg.train_dataloader.batch_size = 1
    train(cfg)
    lines = [line for line in capsys.readouterr().out.splitlines() if 'step ' in line]
    assert ' '.join(re.search(r'step (\S+)', line)[1] for line in lines) == expected
    assert all('student ' in line and 'loss_kd_' in line for line in lines)
