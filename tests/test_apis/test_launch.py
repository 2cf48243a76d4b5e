"""From a config to a runner."""

from types import SimpleNamespace

from mmengine.config import Config
from mmengine.runner import Runner

from mmdiffkd.apis import build_runner


def test_a_collate_function_gets_no_scope(monkeypatch):
    """As configs on a base named 'library::config' have it."""

    def from_cfg(cfg):
        return SimpleNamespace(cfg=cfg, train=None, val=None, test=None)

    monkeypatch.setattr(Runner, 'from_cfg', from_cfg)
    collate = dict(_scope_='mmpretrain', type='default_collate')
    cfg = Config(dict(train_dataloader=dict(collate_fn=collate), val_dataloader=None))
    assert build_runner(cfg).cfg.train_dataloader.collate_fn == dict(type='default_collate')
