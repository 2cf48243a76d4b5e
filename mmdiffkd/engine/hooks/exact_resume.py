"""A resumed run computes what it would have computed without the stop."""

from itertools import chain
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mmdiffkd.engine.batches import EPOCH, ITERATION, numbered, seed_generators
from mmdiffkd.errors import ConfigError
from mmdiffkd.registry import HOOKS

# The message hub is part of every checkpoint.
_BATCHES_DONE = 'batches_of_epoch_done'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes everything random in training a function of seed, process and iteration.

    A run that goes on from a checkpoint then has the same noise, dropout, data and augmentation as
    one that was never stopped, with any number of data loading workers. Batches that were trained
    on are left out without being loaded. The number of processes must be the same. Not restored
    are values outside the state dict, and gradients between two steps of the optimizer
    (``accumulative_counts``).
    """

    priority = 'HIGHEST'

    def before_train(self, runner: Runner) -> None:
        """Number the batches, and go to the first one that was not trained on."""
        loop = runner.train_loop
        endless = isinstance(loop, IterBasedTrainLoop)
        if not isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
            what = '--exact-resume needs EpochBasedTrainLoop or IterBasedTrainLoop'
            raise ConfigError(f'{what}, got {type(loop).__name__}')
        loop.dataloader = numbered(loop.dataloader, runner.seed, get_rank(), endless)
        self._batches = loop.dataloader.batch_sampler
        if endless:
            self._batches.first = loop.iter
            loop.dataloader_iterator = _Skipped(loop)
        else:
            self._batches.first = done = runner.message_hub.runtime_info.get(_BATCHES_DONE, 0)
            run_iter = loop.run_iter
            # The loop counts the batches that it gets from 0.
            loop.run_iter = lambda idx, data_batch: run_iter(idx + done, data_batch)

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed for what an epoch draws at its start, such as the order of the data."""
        if not self._batches.endless:
            self._batches.epoch = runner.epoch
        seed_generators(runner.seed, EPOCH, get_rank(), runner.epoch)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Seed for the iteration."""
        seed_generators(runner.seed, ITERATION, get_rank(), runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Note the position in the epoch."""
        runner.message_hub.update_info(_BATCHES_DONE, batch_idx + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Begin the next epoch with its first batch."""
        runner.message_hub.update_info(_BATCHES_DONE, 0)
        self._batches.first = 0
        vars(runner.train_loop).pop('run_iter', None)


class _Skipped:
    """Iterator of an ``IterBasedTrainLoop`` that is resumed.

    The loop drops the batches that it was trained on. The data loader leaves them out already, so
    the loop gets None in the place of each.
    """

    def __init__(self, loop: IterBasedTrainLoop) -> None:
        # Newer versions of mmengine can be told not to skip.
        self._to_skip = 0 if getattr(loop, 'fast_forward_on_resume', False) else loop.iter
        # Workers start when the first batch is asked for.
        self._batches = chain.from_iterable([loop.dataloader])

    def skip_iter(self, number: int) -> None:
        """Newer versions of mmengine skip by this method."""
        self._to_skip -= number

    def __next__(self) -> Any:
        if self._to_skip > 0:  # Older versions throw away what they get.
            self._to_skip -= 1
            return None
        return next(self._batches)
