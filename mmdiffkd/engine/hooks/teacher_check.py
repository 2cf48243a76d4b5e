"""One validation of the teacher, before training."""

from typing import Any, Dict

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner, ValLoop
from mmengine.runner.amp import autocast

from mmdiffkd.engine.hooks.model import distiller_of
from mmdiffkd.errors import ConfigError
from mmdiffkd.models import DiffKDDistiller
from mmdiffkd.models.dry_run import random_state_kept
from mmdiffkd.registry import HOOKS

# A teacher that has come this part of the way from a guess to a perfect result knows nothing.
_NEAR_CHANCE = 0.05


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Validates the teacher once before training and logs its metrics as ``teacher/<metric>``.

    Data and metrics are those of the run's own validation. The teacher is validated as it is
    distilled: with the images it gets in training, folded batch norms, and its precision. A result
    that is no better than a guess is a warning. Training is not changed by the check.

    Args:
        interval: Number of batches between two lines of progress in the log.

    Raises:
        ConfigError: When training starts, if the config has no validation or an unusual one.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Validate the teacher and log the result."""
        distiller = distiller_of(runner, self)
        if runner.val_loop is None or type(runner.val_loop).run is not ValLoop.run:
            raise ConfigError(
                'TeacherCheckHook (--check-teacher) needs val_dataloader, val_evaluator and '
                f'val_cfg with ValLoop, got {type(runner.val_loop).__name__}'
            )
        with random_state_kept():
            metrics = self._validate(distiller, runner)
        self._log(runner, metrics)
        if distiller.teacher.has_random_weights:
            runner.logger.warning(
                'Teacher check: the teacher has random weights, so its metrics mean nothing'
            )
        else:
            self._compare_with_chance(runner, metrics)

    @torch.no_grad()
    def _validate(self, distiller: DiffKDDistiller, runner: Runner) -> Dict[str, Any]:
        # A loop of its own: the metrics and workers of the other one belong to the student.
        loop = runner.build_val_loop(runner.cfg.get('val_cfg') or {})
        number = len(loop.dataloader)
        for index, data in enumerate(loop.dataloader, start=1):
            with autocast(enabled=loop.fp16):
                outputs = distiller.predict_with_teacher(data)
            loop.evaluator.process(data_samples=outputs, data_batch=data)
            if index % self.interval == 0:
                runner.logger.info(f'Teacher check: [{index}/{number}]')
        return loop.evaluator.evaluate(len(loop.dataloader.dataset))

    def _compare_with_chance(self, runner: Runner, metrics: Dict[str, Any]) -> None:
        classes = getattr(runner.val_dataloader.dataset, 'metainfo', {}).get('classes')
        for key, value in metrics.items():
            if key in ('accuracy/top1', 'mIoU'):
                perfect, chance = 100, 100 / len(classes) if classes and key != 'mIoU' else 0
            elif key.endswith('mAP'):
                perfect, chance = 1, 0
            else:
                continue
            if not value > chance + _NEAR_CHANCE * (perfect - chance):
                runner.logger.warning(
                    f'Teacher check: {key} of the teacher is {value:.4g}, not better than a guess. '
                    f'Check its checkpoint, its classes and their order, and the images that it '
                    f'gets (teacher.input changes them)'
                )

    def _log(self, runner: Runner, metrics: Dict[str, Any]) -> None:
        if not metrics:
            # mmdet's evaluation has none if nothing was detected.
            runner.logger.warning('Teacher check: the evaluation of its predictions has no metrics')
            return
        runner.logger.info('Teacher check: ' + '  '.join(f'{k}: {v}' for k, v in metrics.items()))
        scalars = {f'teacher/{k}': float(v) for k, v in metrics.items() if _is_scalar(v)}
        # The file is the one in which mmengine's LoggerHook writes as well.
        runner.visualizer.add_scalars(
            scalars, step=runner.iter, file_path=f'{runner.timestamp}.json'
        )


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, (str, bool)) and np.ndim(value) == 0
