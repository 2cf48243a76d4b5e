"""Diagnostics of single feature maps."""

from typing import Dict, Sequence

import torch.nn.functional as F
from mmengine.runner import Runner
from torch import Tensor

from mmdiffkd.diffusion import HeadOutput
from mmdiffkd.engine.hooks.observing import ObservingHook
from mmdiffkd.registry import HOOKS


@HOOKS.register_module()
class TelemetryHook(ObservingHook):
    """Writes the diagnostics of every map of a pair: gamma and the distances to the teacher.

    The log on the screen has the mean over a pair's maps. This hook writes one number per map to
    the visualizer's backends (scalars.json, TensorBoard, W&B, ...), which
    ``tools/analysis/plot_run.py`` reads: ``gamma_<pair>/level_<i>``, ``dist_before_...`` and
    ``dist_after_...``. They are those of the main process's batch.

    Args:
        interval: Number of iterations between two entries; the first iteration is written too.
    """

    def __init__(self, interval: int = 50) -> None:
        super().__init__(interval)
        self._scalars: Dict[str, Tensor] = {}

    def see(self, pair: str, outputs: Sequence[HeadOutput]) -> None:
        """Note the scalars, without waiting for the device."""
        for level, output in enumerate(outputs):
            suffix = f'{pair}/level_{level}'
            before = F.mse_loss(output.aligned, output.target)
            self._scalars[f'dist_before_{suffix}'] = before
            self._scalars[f'dist_after_{suffix}'] = F.mse_loss(output.refined, output.target)
            for name, value in output.stats.items():
                self._scalars[f'{name}_{suffix}'] = value.mean()

    def report(self, runner: Runner) -> None:
        """Write the scalars beside those of mmengine's ``LoggerHook``."""
        if not self._scalars:
            return
        step = runner.iter + 1
        scalars = {name: value.item() for name, value in self._scalars.items()}
        self._scalars = {}
        # As in the lines of LoggerHook, "iter" tells training from validation.
        runner.visualizer.add_scalars(
            dict(scalars, iter=step), step=step, file_path=f'{runner.timestamp}.json'
        )
