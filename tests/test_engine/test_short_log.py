"""The lines of a training in the terminal."""

import re

from mmengine.hooks import LoggerHook

from mmdiffkd.apis import train

from ..toy_run import toy_run


def test_interval_and_end_of_an_epoch_are_shown(toy_config, tmp_path, capsys):
    logging = dict(logger=dict(type=LoggerHook, interval=3))
    cfg = toy_run(toy_config, tmp_path, default_hooks=logging, terminal_level='WARNING')
    cfg.train_dataloader.batch_size = 1
    train(cfg)
    lines = [line for line in capsys.readouterr().out.splitlines() if 'step ' in line]
    assert [re.search(r'step (.)/4', line)[1] for line in lines] == ['3', '4']
    assert all('student ' in line and 'loss_kd_' in line for line in lines)
