"""From a command line to a runner."""

import argparse

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mmdiffkd.apis import add_config_arguments, build_runner, load_config
from mmdiffkd.errors import ConfigError


def test_a_collate_function_gets_no_scope(monkeypatch):
    """As configs on a base named 'library::config' have it."""
    monkeypatch.setattr(Runner, 'from_cfg', lambda cfg: cfg)
    collate = dict(_scope_='mmpretrain', type='default_collate')
    cfg = Config(dict(train_dataloader=dict(collate_fn=collate), val_dataloader=None))
    assert build_runner(cfg).train_dataloader.collate_fn == dict(type='default_collate')


def load(*argv):
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    return load_config(parser.parse_args([str(argument) for argument in argv]))


def test_own_config_is_not_overwritten(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("# Mine.\nmodel = dict(type='A', sizes=[(1, 2)], names={'a-b': None})\n")
    with pytest.raises(ConfigError, match='which the run would overwrite'):
        load(path, '--work-dir', tmp_path)
    # What a run has written there may be used again.
    load(path, '--work-dir', tmp_path / 'run').dump(tmp_path / 'run' / 'mine.py')
    cfg = load(tmp_path / 'run' / 'mine.py', '--cfg-options', 'model.type=B')
    assert cfg.work_dir == str(tmp_path / 'run') and cfg.model.type == 'B'
