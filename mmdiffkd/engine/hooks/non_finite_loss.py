"""Stop a training, or skip an iteration, when a loss is not finite."""

from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import CheckpointHook, Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner, find_latest_checkpoint
from torch import Tensor

from mmdiffkd.engine.hooks.buffers import BufferCopies
from mmdiffkd.engine.hooks.model import model_of
from mmdiffkd.engine.hooks.witness import PairWitness, non_finite
from mmdiffkd.errors import ConfigError, UserError
from mmdiffkd.models import DiffKDDistiller
from mmdiffkd.registry import HOOKS

_ACTIONS = ('stop', 'skip')
_MAX_NAMES = 3


class NonFiniteLossError(UserError, RuntimeError):
    """A loss, or a weight that was about to be saved, is infinite or not a number."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Ends a training whose loss is inf or nan, or skips such iterations.

    The message names the losses, for those of a pair its levels, the captured features that were
    not finite themselves (they overflowed), and the rank. Nothing is saved after the bad numbers:
    weights are checked before each checkpoint and validation too, because finite losses can have
    gradients that are not.

    With ``action='stop'`` a step costs one number read after the step, when mmengine has read all
    losses for its log, so that nothing waits; with several processes also its all-reduce, by which
    all of them stop in the same iteration.

    With ``action='skip'`` the loss is read before the backward, for which the device has to wait.
    A skipped iteration changes no weight, nothing of the optimizer, the loss scale of AMP or
    accumulated gradients, and no buffer (running statistics of batch norms, which have seen the bad
    features, are put back); it does not count as one of ``accumulative_counts``. Learning rates
    and an EMA go on. If one process cannot use its loss, all skip.

    Args:
        action: ``'stop'`` or ``'skip'``.
        max_skipped: So many iterations in a row are skipped; one more, and the training ends.

    Raises:
        ConfigError: If an argument is wrong, or ``'skip'`` has several optimizers.
        NonFiniteLossError: From the training that ends.
    """

    # Behind RuntimeInfoHook, which reads the losses, before what averages and saves weights.
    priority = 'HIGH'

    def __init__(self, action: str = 'stop', max_skipped: int = 10) -> None:
        if action not in _ACTIONS:
            raise ConfigError(
                f'NonFiniteLossHook.action must be one of {", ".join(map(repr, _ACTIONS))}, got '
                f'{action!r}'
            )
        if not isinstance(max_skipped, int) or max_skipped < 1:
            raise ConfigError(
                f'NonFiniteLossHook.max_skipped must be a positive number of iterations, got '
                f'{max_skipped!r}'
            )
        self.action, self.max_skipped = action, max_skipped
        self.num_skipped = 0
        self._skipped_in_a_row = 0
        self._skips_this = False
        self._error: Optional[NonFiniteLossError] = None
        self._witness: Optional[PairWitness] = None
        self._never_finite: Optional[List[str]] = None
        self._buffers = BufferCopies()

    def before_train(self, runner: Runner) -> None:
        """Begin to look at the pairs and, to skip, come between loss and backward."""
        model = model_of(runner)
        if isinstance(model, DiffKDDistiller):
            self._witness = PairWitness(model)
        # Masks of -inf, for example.
        self._never_finite = non_finite(model.state_dict().items())
        if self.action == 'skip':
            self._come_between(runner)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Remember the buffers, to be put back if this iteration is skipped."""
        if self.action == 'skip':
            self._buffers.take(model_of(runner))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[Dict[str, Tensor]] = None,
    ) -> None:
        """Stop, or say that the iteration was skipped, if a loss was not finite."""
        bad = self._skips_this if self.action == 'skip' else _is_bad_anywhere(_total(outputs))
        if bad:
            self._report(runner, outputs)
        else:
            self._skipped_in_a_row = 0
            if self._saves_now(runner):
                self._check_weights(runner)
        if self._witness is not None:
            self._witness.forget()

    def after_train_epoch(self, runner: Runner) -> None:
        """Check the weights before they are saved."""
        self._check_weights(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Check the weights before they become the best."""
        self._check_weights(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict) -> None:
        """Let nothing be written that is not finite, whoever saves (an interrupt, for example)."""
        if self._error is not None:
            raise self._error
        bad = self._bad_weights(checkpoint['state_dict'])
        if bad:
            self._stop(runner, bad)

    def after_train(self, runner: Runner) -> None:
        """Look away, and leave the optimizer alone again."""
        if self._witness is not None:
            self._witness.remove()
        if self.action == 'skip':
            del runner.optim_wrapper.update_params

    def _come_between(self, runner: Runner) -> None:
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapperDict):
            raise ConfigError(
                "NonFiniteLossHook: action='skip' needs one optimizer, this training has several"
            )
        update = wrapper.update_params

        # The one step between loss and backward that `train_step` takes with DDP and without.
        def update_or_skip(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            self._skips_this = _is_bad_anywhere(loss)
            if not self._skips_this:
                update(loss, *args, **kwargs)
            else:
                self._buffers.put_back()

        wrapper.update_params = update_or_skip

    def _report(self, runner: Runner, outputs: Dict[str, Tensor]) -> None:
        what = f'iteration {runner.iter + 1}: {_from_all_ranks(self._what_is_bad(outputs))}'
        if self.action == 'stop':
            self._stop(runner, what)
        self._skipped_in_a_row += 1
        self.num_skipped += 1
        if self._skipped_in_a_row > self.max_skipped:
            self._stop(runner, f'{what}; the {self.max_skipped} iterations before were skipped')
        self._check_weights(runner)
        runner.logger.warning(f'{what}; skipped, {self.num_skipped} so far')

    def _what_is_bad(self, outputs: Dict[str, Tensor]) -> str:
        """The losses and features of this process that are not finite, empty if all are."""
        names = {name for name in non_finite(outputs.items()) if 'loss' in name}
        by_level = [] if self._witness is None else list(self._witness.losses())
        # Those have their levels; the sum says nothing where its parts are known.
        names -= {text.partition(' ')[0] for text in by_level}
        if len(names) > 1 or by_level:
            names.discard('loss')
        losses = [f'{name} is {outputs[name].item()}' for name in outputs if name in names]
        features = [] if self._witness is None else list(self._witness.features())
        return ', '.join(losses + by_level + features)

    def _saves_now(self, runner: Runner) -> bool:
        return any(
            self.every_n_train_iters(runner, hook.interval) or self.is_last_train_iter(runner)
            for hook in runner.hooks
            if isinstance(hook, CheckpointHook) and not hook.by_epoch
        )

    def _check_weights(self, runner: Runner) -> None:
        # In all processes: if the main one alone ended when it saves, the others would wait for it,
        # and CheckpointHook removes the oldest checkpoint before it saves a new one.
        bad = _from_all_ranks(self._bad_weights(model_of(runner).state_dict()))
        if bad:
            self._stop(runner, bad)

    def _bad_weights(self, state: Dict[str, Tensor]) -> str:
        """What is wrong with the weights of this process, empty if nothing is."""
        if self._never_finite is None:  # there is no training: runner.val()
            return ''
        names = [name for name in non_finite(state.items()) if name not in self._never_finite]
        if not names:
            return ''
        more = f' and {len(names) - _MAX_NAMES} more' if len(names) > _MAX_NAMES else ''
        return (
            f'{", ".join(names[:_MAX_NAMES])}{more} became inf or nan in a step whose losses were '
            f'finite and whose gradients were not'
        )

    def _stop(self, runner: Runner, what: str) -> None:
        last = 'there is no checkpoint yet'
        if Path(runner.work_dir, 'last_checkpoint').is_file():
            last = f'the last checkpoint is {find_latest_checkpoint(runner.work_dir)}'
        self._error = NonFiniteLossError(f'{what}; nothing was saved since, {last}')
        raise self._error


def _total(outputs: Dict[str, Tensor]) -> Tensor:
    """What was minimised, of what a model's ``train_step`` returns."""
    if 'loss' in outputs:
        return outputs['loss']
    return torch.as_tensor(sum(value for name, value in outputs.items() if 'loss' in name))


def _is_bad_anywhere(loss: Tensor) -> bool:
    """Whether the loss of any process is not finite; all of them get the same answer."""
    bad = (~loss.detach().isfinite()).float()
    all_reduce(bad, 'max')
    return bool(bad)


def _from_all_ranks(text: str) -> str:
    """The texts of all processes that have one, with their ranks if there are several."""
    texts = all_gather_object(text)
    if len(texts) == 1:
        return text
    return '; '.join(f'rank {rank}: {text}' for rank, text in enumerate(texts) if text)
