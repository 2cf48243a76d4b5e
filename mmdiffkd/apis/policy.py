"""What the tools of this package add to the config of a training."""

from typing import Any

from mmengine.config import Config

from mmdiffkd.models.configs import type_name

TRAINING_HOOKS = ('mmdiffkd.NonFiniteLossHook', 'mmdiffkd.InterruptHook')
"""Hooks that every training gets, also in configs/_base_/distillation_run.py."""


def apply_training_policy(cfg: Config) -> None:
    """Write into a config what a training gets by default, so that the dumped config shows it.

    Added are :data:`TRAINING_HOOKS`, unless ``custom_hooks`` has them; ``SafeCheckpointHook`` in
    the place of mmengine's ``CheckpointHook``; and, with several processes,
    ``randomness.diff_rank_seed=True``, with which each draws its own noise.
    ``training_policy=None`` in the config leaves all this out.
    """
    if cfg.get('training_policy', True) is None:
        return
    for kind in TRAINING_HOOKS:
        add_hook(cfg, kind)
    hooks = cfg.get('default_hooks') or {}
    hook = hooks.get('checkpoint', dict(type='CheckpointHook', interval=1))
    if hook is not None and type_name(hook) == 'CheckpointHook':
        cfg.default_hooks = dict(hooks, checkpoint=dict(hook, type='mmdiffkd.SafeCheckpointHook'))
    if cfg.launcher != 'none':
        cfg.randomness = {**dict(seed=None, diff_rank_seed=True), **(cfg.get('randomness') or {})}


def add_hook(cfg: Config, kind: str, **settings: Any) -> None:
    """Add a hook to ``custom_hooks`` of a config, unless there is one of this type."""
    hooks = list(cfg.get('custom_hooks') or ())
    if not any(type_name(hook) == kind.rpartition('.')[2] for hook in hooks):
        cfg.custom_hooks = [*hooks, dict(type=kind, **settings)]
