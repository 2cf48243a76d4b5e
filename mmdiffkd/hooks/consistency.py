"""Do the processes of a run fit together, and does a run fit the checkpoint it goes on from?"""

import re
from typing import Dict

from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmdiffkd.checkpoint import CheckpointError, listing
from mmdiffkd.registry import HOOKS

from .model import model_of

# What decides on the training; paths of data may well differ from machine to machine.
_KEYS = ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg')


@HOOKS.register_module()
class ConsistencyHook(Hook):
    """Warns of what differs between processes, or between a run and its checkpoint.

    A config that was changed on one machine only trains without an error as long as all weights
    have the same shapes. A run that is resumed by another number of processes goes on, with another
    total batch and the learning rate and iteration counts of before.

    Raises:
        CheckpointError: When a run is resumed from a checkpoint of another model.
    """

    # Before an EMA loads its weights.
    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Compare the configs of all processes."""
        own = {key: _text_of(runner.cfg.get(key)) for key in _KEYS}
        first, *others = all_gather_object(own)
        for rank, other in enumerate(others, 1):
            differing = [key for key in _KEYS if other[key] != first[key]]
            if differing:
                runner.logger.warning(
                    f'Process {rank} runs another config than process 0, they differ in '
                    f'{", ".join(differing)}: is the file the same on all machines?'
                )

    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict) -> None:
        """Note the number of processes."""
        checkpoint['meta']['num_processes'] = get_world_size()

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict) -> None:
        """Compare model and number of processes, if the run goes on from this checkpoint."""
        if runner._resume:
            _check_fit(model_of(runner).state_dict(), checkpoint['state_dict'])
        before, now = checkpoint.get('meta', {}).get('num_processes'), get_world_size()
        if runner._resume and before not in (None, now):
            runner.logger.warning(
                f'Resuming with {now} processes what was trained with {before}: a step has '
                f'{now / before:g} times the images. The learning rate and all that is counted in '
                f'iterations go on as saved; --auto-scale-lr changes nothing any more.'
            )


def _check_fit(own: Dict[str, Tensor], saved: Dict[str, Tensor]) -> None:
    """Raise if a checkpoint is of another model; mmengine would go on with what fits."""
    missing = sorted(own.keys() - saved.keys())
    misshapen = [
        f'{key} {tuple(saved[key].shape)}, model has {tuple(value.shape)}'
        for key, value in own.items()
        if key in saved and saved[key].shape != value.shape
    ]
    problems = [listing('missing', missing), listing('wrongly shaped', misshapen)]
    if any(problems):
        raise CheckpointError(
            f'--resume: the checkpoint is of another model ({"; ".join(filter(None, problems))}); '
            f'to start from what fits, set load_from instead'
        )


def _text_of(setting: object) -> str:
    """A setting as text, without the addresses of objects."""
    return re.sub(r' at 0x[0-9a-f]+', '', repr(setting))
