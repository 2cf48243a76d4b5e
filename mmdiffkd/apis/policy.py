"""What the tools of this package add to the config of a training."""

from mmengine.config import Config

from mmdiffkd.models.configs import add_hook, type_name

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
