"""What hooks share that look at the features which student and teacher are compared by."""

from functools import partial
from typing import Any, List, Sequence

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.hooks import RemovableHandle

from mmdiffkd.diffusion import HeadOutput
from mmdiffkd.engine.hooks.model import distiller_of
from mmdiffkd.models import DiffKDDistiller


class ObservingHook(Hook):
    """Looks at the outputs of all pairs in some iterations, in the main process.

    Those are the first iteration of a training and every ``interval``-th. In all others nothing
    is computed and nothing kept. Training does not notice: no gradient, no random numbers.

    Args:
        interval: In iterations.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int) -> None:
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(
                f'{type(self).__name__}: interval must be a positive number of iterations, got '
                f'{interval!r}'
            )
        self.interval = interval
        self._handles: List[RemovableHandle] = []

    def before_train(self, runner: Runner) -> None:
        """Refuse a model that has no pairs."""
        distiller_of(runner, self)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Begin to look, if it is time."""
        due = runner.iter == 0 or self.every_n_train_iters(runner, self.interval)
        if due and is_main_process():
            self._handles = self.watch(distiller_of(runner, self))

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Write down what was seen, and look away."""
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.report(runner)

    def watch(self, distiller: DiffKDDistiller) -> List[RemovableHandle]:
        """Begin to look at what is needed of this iteration; the handles end it."""
        return [
            pair.register_output_hook(partial(self.see, name))
            for name, pair in distiller.pairs.items()
        ]

    def see(self, pair: str, outputs: Sequence[HeadOutput]) -> None:
        """Take what is needed of a pair's outputs, one per map.

        Args:
            pair: Its name.
            outputs: Not to be changed, nor kept longer than the iteration.
        """
        raise NotImplementedError

    def report(self, runner: Runner) -> None:
        """Write what was seen in this iteration, possibly nothing."""
        raise NotImplementedError
