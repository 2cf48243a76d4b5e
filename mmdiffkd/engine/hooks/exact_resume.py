"""A resumed run computes what the run would have computed that was never stopped."""

from typing import Any, Dict, Optional

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import Tensor, nn

from mmdiffkd.engine.batches import AdvancedBatches, NumberedBatches, numbered
from mmdiffkd.engine.hooks.model import model_of
from mmdiffkd.engine.seeding import EPOCH, ITERATION, seed_generators
from mmdiffkd.registry import HOOKS

# In the message hub, which is part of every checkpoint.
BATCHES_DONE = 'batches_of_epoch_done'

Attributes = Dict[str, Dict[str, Any]]
"""Of modules, by the module's name and their own."""


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes everything random in training a function of seed, process and iteration.

    Noise, timesteps, dropout and augmentation are then the same in a run that goes on from a
    checkpoint as in one that was never stopped, for any number of data loading workers, and they
    differ between processes. So do data: the batches trained on since the start of the run (or,
    with an epoch-based loop, of the epoch) are left out without being loaded.

    Numbers, texts and the like that models keep beside their weights (a count, the size that
    pictures have just now, the epoch that a hook told) are saved as the main process has them, if
    they have changed since training began.

    What cannot be restored: what modules keep in lists, dicts and objects, hooks in themselves;
    data sets and transforms that remember earlier samples (mmdet's
    ``CachedMosaic``), libraries with random generators of their own, and, with several processes,
    gradients collected for ``accumulative_counts`` when a checkpoint is written between two steps
    of the optimizer; about this there is a warning. The number of processes must be the same.
    """

    priority = 'HIGHEST'

    def __init__(self) -> None:
        self._batches: Optional[NumberedBatches] = None
        self._collected: Dict[str, Tensor] = {}
        self._at_start: Attributes = {}
        self._attributes: Attributes = {}
        self._warned = False

    def before_train(self, runner: Runner) -> None:
        """Number the batches, and go to the first one that was not trained on."""
        self._at_start = _plain_attributes(model_of(runner))
        loop = runner.train_loop
        by_iteration = isinstance(loop, IterBasedTrainLoop)
        if not by_iteration and not isinstance(loop, EpochBasedTrainLoop):
            runner.logger.warning(
                f'ExactResumeHook: unknown kind of loop {type(loop).__name__}; a resumed run may '
                f'see other data than one that was never stopped'
            )
            return
        if loop.dataloader.batch_sampler is None:
            runner.logger.warning(
                'ExactResumeHook: train_dataloader has no batch sampler; a resumed run may see '
                'other data than one that was never stopped'
            )
            return
        loop.dataloader = numbered(loop.dataloader, runner.seed, get_rank(), endless=by_iteration)
        self._batches = loop.dataloader.batch_sampler
        if by_iteration:
            self._batches.first = loop.iter
            skips = not getattr(loop, 'fast_forward_on_resume', False)
            loop.dataloader_iterator = AdvancedBatches(loop.dataloader, loop.iter if skips else 0)
        elif loop.iter > 0:
            self._go_on_within_epoch(runner)
        if loop.iter > 0:
            for name, parameter in model_of(runner).named_parameters():
                if name in self._collected:
                    parameter.grad = self._collected[name].to(parameter.device)
        self._collected = {}

    def _go_on_within_epoch(self, runner: Runner) -> None:
        done = runner.message_hub.runtime_info.get(BATCHES_DONE, 0)
        self._batches.first = done
        loop = runner.train_loop
        run_iter = loop.run_iter
        # The loop counts from 0 the batches that it gets.
        loop.run_iter = lambda idx, data_batch: run_iter(idx + done, data_batch)

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed for what an epoch draws at its start, such as the order of the data."""
        # Now: at the start of training, hooks look up what the values of the config are.
        for name, module in model_of(runner).named_modules():
            for key, value in self._attributes.get(name, {}).items():
                setattr(module, key, value)
        self._attributes = {}
        if self._batches is not None and not self._batches.endless:
            self._batches.epoch = runner.epoch
        seed_generators(runner.seed, EPOCH, get_rank(), runner.epoch)

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Seed for the iteration."""
        seed_generators(runner.seed, ITERATION, get_rank(), runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, *args, **kwargs) -> None:
        """Note how far the epoch is, before checkpoints are written."""
        runner.message_hub.update_info(BATCHES_DONE, batch_idx + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Count from 0 again."""
        runner.message_hub.update_info(BATCHES_DONE, 0)
        if self._batches is not None:
            self._batches.first = 0
        vars(runner.train_loop).pop('run_iter', None)

    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Add what the model keeps beside its weights, and the gradients being collected."""
        checkpoint['attributes'] = {
            name: changed
            for name, attributes in _plain_attributes(model_of(runner)).items()
            if (changed := dict(attributes.items() - self._at_start.get(name, {}).items()))
        }
        wrapper = runner.optim_wrapper
        collecting = isinstance(wrapper, OptimWrapper) and not wrapper.should_update()
        if not collecting or 'optimizer' not in checkpoint:
            return
        if get_world_size() == 1:
            checkpoint['gradients'] = {
                name: parameter.grad.cpu()
                for name, parameter in model_of(runner).named_parameters()
                if parameter.grad is not None
            }
        elif not self._warned:
            self._warned = True
            runner.logger.warning(
                'ExactResumeHook: this checkpoint is written between two steps of the optimizer '
                'and lacks the gradients collected since the last one; let the interval of '
                'default_hooks.checkpoint be a multiple of optim_wrapper.accumulative_counts'
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Keep the gradients until the optimizer has been built, the attributes until it runs."""
        if runner._resume:
            self._collected = checkpoint.get('gradients', {})
            self._attributes = checkpoint.get('attributes', {})


def _plain_attributes(model: nn.Module) -> Attributes:
    """What each module of a model keeps in plain immutable values, except its mode."""
    return {
        name: {
            key: value for key, value in vars(module).items() if key != 'training' and _plain(value)
        }
        for name, module in model.named_modules()
    }


def _plain(value: Any) -> bool:
    # No subclasses: a checkpoint with classes of other libraries could not be read.
    if type(value) is tuple:
        return all(map(_plain, value))
    return value is None or type(value) in (bool, int, float, str)
