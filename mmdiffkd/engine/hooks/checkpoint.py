"""Checkpoints that a killed process cannot damage."""

from pathlib import Path
from typing import Any, Dict

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from torch import Tensor

from mmdiffkd.checkpoints.files import ATOMIC, AtomicBackend, remove_partial_files
from mmdiffkd.engine.hooks.model import model_of
from mmdiffkd.errors import CheckpointError
from mmdiffkd.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, with files that are there completely or not at all.

    It removes outdated files (``max_keep_ckpts``, ``save_best``) after the new one has been
    written; mmengine removes them before. A run cannot be resumed from a checkpoint of another
    model. The arguments are mmengine's; files in remote folders, and those with ``backend_args``
    of their own, are written as by mmengine.
    """

    def before_train(self, runner: Runner) -> None:
        """Choose how files are written, and remove what a killed process left unfinished."""
        folder = self.out_dir or runner.work_dir
        custom = self.backend_args is not None or self.file_client_args is not None
        if not custom and '://' not in str(folder):
            self.backend_args = dict(backend=ATOMIC)
        super().before_train(runner)
        if is_main_process() and Path(self.out_dir).is_dir():
            remove_partial_files(self.out_dir)

    after_train_iter = AtomicBackend.removing_last()(CheckpointHook.after_train_iter)
    after_train_epoch = AtomicBackend.removing_last()(CheckpointHook.after_train_epoch)
    after_val_epoch = AtomicBackend.removing_last()(CheckpointHook.after_val_epoch)

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Refuse to resume from another model; mmengine would go on with the weights that fit."""
        if not runner.cfg.get('resume'):
            return
        for name, value in model_of(runner).state_dict().items():
            other = checkpoint['state_dict'].get(name)
            if not isinstance(value, Tensor) or getattr(other, 'shape', None) == value.shape:
                continue
            found = 'nothing' if other is None else tuple(other.shape)
            raise CheckpointError(
                f'--resume: the checkpoint is of another model (it has {found} for {name!r}, '
                f'expected {tuple(value.shape)}); to start from what fits, set load_from instead'
            )
