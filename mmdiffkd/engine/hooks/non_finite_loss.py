"""Stop a training whose loss is not finite."""

from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner, find_latest_checkpoint
from torch import Tensor

from mmdiffkd.engine.hooks.model import model_of
from mmdiffkd.registry import HOOKS

_MAX_NAMES = 3


class NonFiniteLossError(RuntimeError):
    """A loss, or a weight that was about to be saved, is infinite or not a number."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Ends a training whose loss is inf or nan, in all processes after the same iteration.

    The message names the losses, whose names end in that of the pair, and the last good
    checkpoint. Weights are checked before each checkpoint and validation too, because finite
    losses can have gradients that are not finite; such weights are not saved.

    Raises:
        NonFiniteLossError: From the training that ends.
    """

    # After RuntimeInfoHook, which waits for the losses, and before hooks that save weights.
    priority = 'HIGH'

    def __init__(self) -> None:
        self._never_finite: Optional[Set[str]] = None

    def before_train(self, runner: Runner) -> None:
        """Note the entries of the state that are meant not to be finite, such as masks of -inf."""
        self._never_finite = set(_non_finite(model_of(runner).state_dict().items()))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[Dict[str, Tensor]] = None,
    ) -> None:
        """Stop if a loss of any process is not finite."""
        losses = {k: torch.as_tensor(v).detach() for k, v in outputs.items() if 'loss' in k}
        bad = (~torch.as_tensor(sum(losses.values())).isfinite()).float()
        all_reduce(bad, 'max')
        if bad:
            names = _non_finite(losses.items())
            # The total says nothing if its parts are named.
            names = [name for name in names if name != 'loss'] or names
            text = ', '.join(f'{name} is {losses[name].item()}' for name in names)
            _stop(runner, f'iteration {runner.iter + 1}: {_from_all_processes(text)}')
        if self._checkpoint_follows(runner):
            self._check_weights(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Check the weights before they are saved."""
        self._check_weights(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Check the weights before they can become the best."""
        self._check_weights(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Check the weights, whatever they are saved for (an interrupt, for example)."""
        text = self._bad_weights(checkpoint['state_dict'])
        if text:
            _stop(runner, text)

    def _checkpoint_follows(self, runner: Runner) -> bool:
        return any(
            self.every_n_train_iters(runner, hook.interval) or self.is_last_train_iter(runner)
            for hook in runner.hooks
            if isinstance(hook, CheckpointHook) and not hook.by_epoch
        )

    def _check_weights(self, runner: Runner) -> None:
        # In all processes: only the main one saves, and the others would wait for it.
        text = _from_all_processes(self._bad_weights(model_of(runner).state_dict()))
        if text:
            _stop(runner, text)

    def _bad_weights(self, state: Dict[str, Tensor]) -> str:
        if self._never_finite is None:  # runner.val() without a training
            return ''
        names = [name for name in _non_finite(state.items()) if name not in self._never_finite]
        if not names:
            return ''
        more = f' and {len(names) - _MAX_NAMES} more' if len(names) > _MAX_NAMES else ''
        return (
            f'{", ".join(names[:_MAX_NAMES])}{more} became inf or nan in a step whose losses were '
            f'finite and whose gradients were not'
        )


def _non_finite(named: Iterable[Tuple[str, Any]]) -> List[str]:
    return [k for k, v in named if isinstance(v, Tensor) and not v.isfinite().all()]


def _from_all_processes(text: str) -> str:
    """The texts of all processes, with their ranks if there are several."""
    texts = all_gather_object(text)
    if len(texts) == 1:
        return text
    return '; '.join(f'rank {rank}: {text}' for rank, text in enumerate(texts) if text)


def _stop(runner: Runner, what: str) -> None:
    last = 'there is no checkpoint yet'
    if Path(runner.work_dir, 'last_checkpoint').is_file():
        last = f'the last checkpoint is {find_latest_checkpoint(runner.work_dir)}'
    raise NonFiniteLossError(f'{what}; nothing was saved since, {last}')
