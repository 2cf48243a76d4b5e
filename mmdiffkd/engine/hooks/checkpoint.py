"""Checkpoints that a kill cannot take away."""

from pathlib import Path
from typing import Any, Dict

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmdiffkd.checkpoints.files import ATOMIC, AtomicBackend, remove_partial_files
from mmdiffkd.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's hook, with files written completely or not at all, and old ones removed last.

    mmengine removes what ``max_keep_ckpts`` and ``save_best`` make superfluous before it writes the
    file that takes its place, and writes in place. Settings are the same. Folders that are not
    local, or with ``backend_args`` of their own, are written as by mmengine.
    """

    def before_train(self, runner: Runner) -> None:
        """Choose how to write, and clear away what an earlier process could not finish."""
        folder = self.out_dir or runner.work_dir
        custom = self.backend_args is not None or self.file_client_args is not None
        if not custom and ':' not in str(folder):
            self.backend_args = dict(backend=ATOMIC)
        super().before_train(runner)
        if is_main_process() and Path(self.out_dir).is_dir():
            remove_partial_files(self.out_dir)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: Dict[str, Any]) -> None:
        with AtomicBackend.removing_last():
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: Dict[str, Any]) -> None:
        with AtomicBackend.removing_last():
            super()._save_best_checkpoint(runner, metrics)
