"""Base of the hooks that look at the features by which student and teacher are compared."""

from functools import partial
from typing import Any, List

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.hooks import RemovableHandle

from mmdiffkd.engine.hooks.model import distiller_of
from mmdiffkd.errors import ConfigError
from mmdiffkd.models import DiffKDDistiller


class ObservingHook(Hook):
    """Looks at the outputs of all pairs in some iterations, in the main process.

    Those are the first iteration of a training and every ``interval``-th one. Training is not
    changed by it. Subclasses implement ``see(pair, outputs)``, which gets the name of a pair and
    one ``HeadOutput`` per map that must not be kept, and ``report(runner)``, called after the
    iteration.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int) -> None:
        if not isinstance(interval, int) or interval < 1:
            raise ConfigError(
                f'{type(self).__name__}: interval must be a positive integer, got {interval!r}'
            )
        self.interval = interval
        self._handles: List[RemovableHandle] = []

    def before_train(self, runner: Runner) -> None:
        """Refuse a model that has no pairs."""
        distiller_of(runner, self)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Register the observers if this iteration is one to look at."""
        due = runner.iter == 0 or self.every_n_train_iters(runner, self.interval)
        if due and is_main_process():
            self._handles = self.watch(distiller_of(runner, self))

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Report what was seen, and remove the observers."""
        if self._handles:
            for handle in self._handles:
                handle.remove()
            self._handles = []
            self.report(runner)

    def watch(self, distiller: DiffKDDistiller) -> List[RemovableHandle]:
        """Register the observers; the handles remove them."""
        return [
            pair.register_output_hook(partial(self.see, name))
            for name, pair in distiller.pairs.items()
        ]
