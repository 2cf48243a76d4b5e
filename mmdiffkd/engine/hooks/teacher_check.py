"""One validation of the teacher, before training."""

import logging
from typing import Any, Dict

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner, ValLoop
from mmengine.runner.amp import autocast

from mmdiffkd.engine.hooks.model import distiller_of
from mmdiffkd.errors import ConfigError
from mmdiffkd.messages import tell
from mmdiffkd.models.dry_run import random_state_kept
from mmdiffkd.registry import HOOKS


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Validates the teacher once before training and logs its metrics as ``teacher/<metric>``.

    Each of several teachers is validated, and has ``<name>`` in place of ``teacher``; averages of
    the student and models that yield features alone are left out. Data and metrics are those of the
    run's own validation. The teacher is validated as it is distilled. A result that is no better
    than a guess is a warning. Training is not changed by it.

    Args:
        interval: Number of batches between two lines of progress in the log.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Validate the teacher and log the result."""
        if runner.val_loop is None or type(runner.val_loop).run is not ValLoop.run:
            raise ConfigError(
                'TeacherCheckHook (--check-teacher) needs val_dataloader, val_evaluator and '
                f'val_cfg with ValLoop, got {type(runner.val_loop).__name__}'
            )
        teachers = distiller_of(runner, self).teachers
        tested = [name for name, teacher in teachers.items() if teacher.predicts]
        if not tested:
            raise ConfigError(
                'TeacherCheckHook (--check-teacher): no teacher yields predictions that could be '
                'validated; leave the check out'
            )
        for name in tested:
            self._check(runner, name, teachers[name])

    def _check(self, runner: Runner, name: str, teacher: Any) -> None:
        with random_state_kept():
            metrics = self._validate(runner, name)
        for problem in _problems(runner, metrics, teacher):
            tell(f'Teacher check: {problem}', logging.WARNING)
        of_which = f' of {name}' if name else ''
        tell(f'Teacher check{of_which}: ' + '  '.join(f'{k}: {v}' for k, v in metrics.items()))
        numbers = {k: v for k, v in metrics.items() if np.ndim(v) == 0 and not isinstance(v, str)}
        # The file is the one in which mmengine's LoggerHook writes as well.
        runner.visualizer.add_scalars(
            {f'{name or "teacher"}/{k}': float(v) for k, v in numbers.items()},
            step=runner.iter,
            file_path=f'{runner.timestamp}.json',
        )

    @torch.no_grad()
    def _validate(self, runner: Runner, name: str) -> Dict[str, Any]:
        distiller = distiller_of(runner, self)
        # A loop of its own: the metrics and workers of the other one belong to the student.
        loop = runner.build_val_loop(runner.cfg.get('val_cfg') or {})
        number = len(loop.dataloader)
        for index, data in enumerate(loop.dataloader, start=1):
            with autocast(enabled=loop.fp16):
                outputs = distiller.predict_with_teacher(data, name)
            loop.evaluator.process(data_samples=outputs, data_batch=data)
            if index % self.interval == 0:
                tell(f'Teacher check: [{index}/{number}]')
        return loop.evaluator.evaluate(len(loop.dataloader.dataset))


def _problems(runner: Runner, metrics: Dict[str, Any], teacher: Any) -> Any:
    """Yield what is wrong with the teacher's metrics, in words."""
    if teacher.has_random_weights:
        yield 'the teacher has random weights, so its metrics mean nothing'
        return
    if not metrics:  # mmdet's evaluation has none if nothing was detected
        yield 'the evaluation of its predictions has no metrics'
    classes = getattr(runner.val_dataloader.dataset, 'metainfo', {}).get('classes')
    for key, value in metrics.items():
        perfect = 100 if key in ('accuracy/top1', 'mIoU') else 1 if key.endswith('mAP') else None
        chance = 100 / len(classes) if key == 'accuracy/top1' and classes else 0
        if perfect and not value > chance + 0.05 * (perfect - chance):
            advice = 'Check its checkpoint, its classes and their order, and teacher.input'
            yield f'{key} of the teacher is {value:.4g}, not better than a guess. {advice}'
