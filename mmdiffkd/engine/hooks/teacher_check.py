"""Is the teacher any good? One validation of it, before training."""

from typing import Any, Dict

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner, ValLoop
from mmengine.runner.amp import autocast

from mmdiffkd.engine.hooks.model import distiller_of
from mmdiffkd.errors import ConfigError
from mmdiffkd.models import DiffKDDistiller
from mmdiffkd.models.probing import random_state_kept
from mmdiffkd.models.published import (
    GUESSED_AMONG_CLASSES,
    PublishedResult,
    in_percent,
    published_results,
    validated_metrics,
)
from mmdiffkd.registry import HOOKS

_PREFIX = 'teacher/'
# A teacher that is this little of the way from a guess to perfect knows nothing.
_NEAR_CHANCE = 0.05


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Validates the teacher once before training and logs its metrics as ``teacher/<metric>``.

    The data and the metrics are those of the run's own validation. The teacher is the one that
    will be distilled: as it was loaded, on the pictures that it gets in training, batch norms
    folded, in its precision. A number far from what it is known for means a wrong checkpoint, other
    classes, or images prepared in another way than it was trained with; one that is no better than
    a guess is a warning.

    Training goes on as if nothing had happened: the random state, the validation's own counters
    and metrics, and what decides on the best checkpoint stay as they were.

    If the teacher's config is a ``library::name`` and the library's model index records a metric of
    this kind for it, a result far below that is a warning.

    Args:
        interval: Batches between two lines of progress in the log.
        tolerance: How many points, of 100, the teacher may be below its recorded metric. Other
            sizes of image than the teacher's own cost a few.

    Raises:
        ConfigError: When training starts, if the config has no validation or an unusual one.
    """

    def __init__(self, interval: int = 50, tolerance: float = 3.0) -> None:
        self.interval = interval
        self.tolerance = tolerance

    def before_train(self, runner: Runner) -> None:
        """Run the check and log what it yields."""
        distiller = distiller_of(runner, self)
        teacher = distiller.teacher
        if runner.val_loop is None:
            raise ConfigError(
                'TeacherCheckHook (--check-teacher) needs a validation: val_cfg, val_dataloader '
                'and val_evaluator in the config'
            )
        if type(runner.val_loop).run is not ValLoop.run:
            raise ConfigError(
                f'TeacherCheckHook (--check-teacher) validates as ValLoop does, not as the '
                f"config's {type(runner.val_loop).__name__}"
            )
        if teacher.has_random_weights:
            runner.logger.warning(
                'Teacher check: the teacher has random weights, so its metrics mean nothing'
            )
        with random_state_kept():
            metrics = self._validate(distiller, runner)
        self._log(runner, {f'{_PREFIX}{key}': value for key, value in metrics.items()})
        if not teacher.has_random_weights:
            self._compare_with_chance(runner, metrics)
            self._compare(runner, metrics, published_results(teacher.config))

    @torch.no_grad()
    def _validate(self, distiller: DiffKDDistiller, runner: Runner) -> Dict[str, Any]:
        # Built anew: workers that persist and what metrics remember belong to the student's.
        loop = runner.build_val_loop(runner.cfg.get('val_cfg') or {})
        number = len(loop.dataloader)
        runner.logger.info(
            f'Teacher check: {type(distiller.teacher.model).__name__} on '
            f'{len(loop.dataloader.dataset)} images'
        )
        for index, data in enumerate(loop.dataloader, start=1):
            with autocast(enabled=loop.fp16):
                outputs = distiller.predict_with_teacher(data)
            loop.evaluator.process(data_samples=outputs, data_batch=data)
            if index % self.interval == 0:
                runner.logger.info(f'Teacher check: [{index}/{number}]')
        return loop.evaluator.evaluate(len(loop.dataloader.dataset))

    def _compare_with_chance(self, runner: Runner, metrics: Dict[str, Any]) -> None:
        dataset = runner.val_dataloader.dataset
        number = len(getattr(dataset, 'metainfo', {}).get('classes') or ())
        for key in (key for key in validated_metrics() if key in metrics):
            value = in_percent(key, float(metrics[key]))
            chance = 100 / number if number and key in GUESSED_AMONG_CLASSES else 0.0
            if not value > chance + _NEAR_CHANCE * (100 - chance):
                runner.logger.warning(
                    f'Teacher check: {key} of the teacher is {value:.1f} %, not better than a '
                    f'guess. Is the checkpoint the right one, does it know these classes in this '
                    f'order, and are its pictures those that it was trained on (the log says which '
                    f'it gets, teacher.input changes them)?'
                )

    def _compare(
        self, runner: Runner, metrics: Dict[str, Any], published: Dict[str, PublishedResult]
    ) -> None:
        for key in published.keys() & metrics.keys():
            value, record = in_percent(key, float(metrics[key])), published[key]
            if not value >= record.value - self.tolerance:
                runner.logger.warning(
                    f'Teacher check: {key} of the teacher is {value:.1f} %, its library records '
                    f'{record.value:.1f} % ({record.name}, {record.dataset}). Is the checkpoint '
                    f'the right one, and is this the data it was measured on?'
                )

    def _log(self, runner: Runner, metrics: Dict[str, Any]) -> None:
        if not metrics:
            # As mmdet's when nothing was detected.
            runner.logger.warning('Teacher check: the evaluation of its predictions has no metrics')
            return
        shown = ((k, f'{v:.4f}' if isinstance(v, float) else v) for k, v in metrics.items())
        runner.logger.info('Teacher check: ' + '  '.join(f'{key}: {text}' for key, text in shown))
        scalars = {key: float(value) for key, value in metrics.items() if _is_scalar(value)}
        # As mmengine's LoggerHook: into the run's own json file as well.
        runner.visualizer.add_scalars(
            scalars, step=runner.iter, file_path=f'{runner.timestamp}.json'
        )


def _is_scalar(value: Any) -> bool:
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return value.ndim == 0
    return isinstance(value, (int, float, np.number))
