"""Hooks that look at the features by which student and teacher are compared."""

from functools import partial
from typing import Any, Dict, List, Mapping, Union

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from mmdiffkd.diffusion import HeadOutput
from mmdiffkd.engine.hooks.model import distiller_of
from mmdiffkd.engine.hooks.pull import PullMeter
from mmdiffkd.errors import check_numbers
from mmdiffkd.models import DiffKDDistiller
from mmdiffkd.registry import HOOKS


class ObservingHook(Hook):
    """Base of hooks that look at the outputs of all pairs.

    They do so in the main process, or in all if ``in_all_processes`` is set, in the first iteration
    and every ``interval``-th one, and do not change the training. Subclasses implement
    ``see(pair, outputs)``, called with a pair's name and the ``HeadOutput`` of each map that has
    rows, by its level, and ``report(runner)``, called after the iteration. The outputs must not be
    kept after the call.
    """

    priority = 'VERY_LOW'
    in_all_processes = False

    def __init__(self, interval: int) -> None:
        check_numbers(1, int, where=f'{type(self).__name__}.', interval=interval)
        self.interval = interval
        self._handles: List[RemovableHandle] = []

    def before_train(self, runner: Runner) -> None:
        """Refuse a model that has no pairs."""
        distiller_of(runner, self)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Register the observers if this iteration is one to look at."""
        due = runner.iter == 0 or self.every_n_train_iters(runner, self.interval)
        if due and (self.in_all_processes or is_main_process()):
            self._handles = self.watch(runner, distiller_of(runner, self))

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Report what was seen, and remove the observers."""
        if self._handles:
            while self._handles:
                self._handles.pop().remove()
            self.report(runner)

    def watch(self, runner: Runner, distiller: DiffKDDistiller) -> List[RemovableHandle]:
        """Register the observers; the handles remove them."""
        pairs = distiller.pairs.items()
        return [pair.register_output_hook(partial(self.see, name)) for name, pair in pairs]


@HOOKS.register_module()
class TelemetryHook(ObservingHook):
    """Writes the diagnostics of every map of a pair, and how hard each pair pulls at the student.

    The log on the screen has the mean over a pair's maps. This hook writes one number per map to
    the visualizer's backends: ``gamma_<pair>/level_<i>``, ``dist_before_...`` and
    ``dist_after_...``, of the main process's batch. It also writes, for all maps of a pair and the
    batches of all processes together, ``pull_<pair>``: the norm of the gradient of the distance
    (``loss_kd_<pair>``) at the student's feature, divided by that of the gradient of the student's
    own losses, and ``agreement_<pair>``, the cosine between the two. This takes about one further
    backward pass. ``tools/analysis/plot_run.py`` reads all of them.

    Args:
        interval: Number of iterations between two entries; the first iteration is written too.
    """

    # Parts of the model may wait for the other processes in their backward pass.
    in_all_processes = True

    def __init__(self, interval: int = 50) -> None:
        super().__init__(interval)
        self._meter = PullMeter()
        self._scalars: Dict[str, Union[Tensor, float]] = {}

    def watch(self, runner: Runner, distiller: DiffKDDistiller) -> List[RemovableHandle]:
        """Measure the pulls as well."""
        return [*super().watch(runner, distiller), *self._meter.watch(runner, distiller)]

    def see(self, pair: str, outputs: Mapping[int, HeadOutput]) -> None:
        """Note the scalars, without waiting for the device."""
        for level, output in outputs.items():
            scalars = output.scalars()
            self._scalars.update({f'{k}_{pair}/level_{level}': v for k, v in scalars.items()})

    def report(self, runner: Runner) -> None:
        """Write the scalars beside those of mmengine's ``LoggerHook``."""
        for name, pull in self._meter.pulls(distiller_of(runner, self)).items():
            self._scalars[f'pull_{name}'] = pull.ratio
            if pull.agreement is not None:
                self._scalars[f'agreement_{name}'] = pull.agreement
        if not self._scalars:
            return
        step, path = runner.iter + 1, f'{runner.timestamp}.json'
        # As in the lines of LoggerHook, "iter" tells training from validation.
        scalars = dict({k: float(v) for k, v in self._scalars.items()}, iter=step)
        self._scalars = {}
        runner.visualizer.add_scalars(scalars, step=step, file_path=path)
