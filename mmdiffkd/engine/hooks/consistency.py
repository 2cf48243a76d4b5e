"""Do the processes of a run fit together, and does a run fit the checkpoint it goes on from?"""

import re
from typing import Any, Dict, Optional

from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmdiffkd.checkpoints.weights import listing
from mmdiffkd.engine.hooks.model import model_of
from mmdiffkd.errors import CheckpointError, shortened
from mmdiffkd.registry import HOOKS

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

    def __init__(self) -> None:
        self._loading: Optional[RemovableHandle] = None

    def before_train(self, runner: Runner) -> None:
        """Compare the configs of all processes."""
        if self._loading is not None:
            self._loading.remove()
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
            model = model_of(runner)
            _check_fit(model.state_dict(), checkpoint['state_dict'])
            # Of the right names hooks of the model may still make wrong ones.
            self._loading = model.register_load_state_dict_post_hook(_refuse_missing)
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
        if isinstance(saved.get(key), Tensor) and saved[key].shape != value.shape
    ]
    _refuse(listing('missing', missing), listing('wrongly shaped', misshapen))


def _refuse_missing(module: nn.Module, keys: Any) -> None:
    """Load post-hook: raise if weights found no place."""
    _refuse(listing('missing', keys.missing_keys))


def _refuse(*problems: str) -> None:
    text = '; '.join(shortened(problem, 130) for problem in problems if problem)
    if text:
        raise CheckpointError(
            f'--resume: the checkpoint is of another model ({text}); to start from what fits, set '
            f'load_from instead'
        )


def _text_of(setting: object) -> str:
    """A setting as text, without the addresses of objects."""
    return re.sub(r' at 0x[0-9a-f]+', '', repr(setting))
