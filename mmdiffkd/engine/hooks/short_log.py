"""Short lines about a run for the terminal."""

import datetime
from typing import Any, Dict, Optional

import numpy as np
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner

from mmdiffkd.engine.hooks.model import model_of, student_losses
from mmdiffkd.messages import SILENT, tell
from mmdiffkd.models import DiffKDDistiller
from mmdiffkd.registry import HOOKS

# Largest number of metrics in a line; detectors have a dozen.
_MOST_METRICS = 4


@HOOKS.register_module()
class ShortLogHook(Hook):
    """Shows lines of the training and one per validation in the terminal.

    Those of the training come at the interval of mmengine's ``LoggerHook`` and at the end of an
    epoch, or of the training if it counts iterations. They have the place in the schedule, the time
    per step and the time left, the sum of all losses, the sum of the student's own ones, and the
    distance of each pair, ``loss_kd_<pair>``.
    """

    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        """Say what is compared, which a smoke run does at its end, and where training goes on."""
        model = model_of(runner)
        if runner.iter > 0:
            tell(f'Going on after {runner.iter} iterations')
        if isinstance(model, DiffKDDistiller) and runner.cfg.get('terminal_level') != SILENT:
            for pair in model.pairs.values():
                tell(f'pair {pair.name}: {pair.summary}')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Optional[Dict] = None
    ) -> None:
        """Write the line of the training if this iteration is logged."""
        hook = next((hook for hook in runner.hooks if isinstance(hook, LoggerHook)), None)
        is_last = self.is_last_train_iter(runner)
        if runner.log_processor.by_epoch:
            is_last = self.end_of_epoch(runner.train_dataloader, batch_idx)
        if hook is None or not (is_last or self.every_n_inner_iters(batch_idx, hook.interval)):
            return
        tag = runner.log_processor.get_log_after_iter(runner, batch_idx, 'train')[0]
        if runner.log_processor.by_epoch:
            place = f'epoch {runner.epoch + 1}/{runner.max_epochs}'
            place += f'  step {batch_idx + 1}/{len(runner.train_dataloader)}'
        else:
            place = f'step {runner.iter + 1}/{runner.max_iters}'
        left = datetime.timedelta(seconds=int(runner.message_hub.get_info('eta', 0)))
        parts = [place]
        if 'time' in tag:
            parts += [f'{1000 * tag["time"]:.0f} ms per step', f'{left} left']
        model = model_of(runner)
        losses = {name: value for name, value in tag.items() if 'loss' in name}
        if isinstance(model, DiffKDDistiller):
            own = sum(student_losses(losses, model).values())
            distances = {k: v for k, v in losses.items() if k.startswith('loss_kd_')}
            losses = dict(loss=losses['loss'], student=own, **distances)
        tell('  '.join([*parts, *(f'{name} {value:.4g}' for name, value in losses.items())]))

    def after_train(self, runner: Runner) -> None:
        """Say where the results are."""
        if runner.cfg.get('terminal_level') != SILENT:
            tell(f'Checkpoints are in {runner.work_dir}, the log is {runner.logger.log_file}')

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        """Write the first metrics of a validation."""
        numbers = {
            k: v for k, v in (metrics or {}).items() if isinstance(v, (int, float, np.number))
        }
        texts = [f'{name} {value:.4g}' for name, value in numbers.items()]
        texts = texts or ['no metrics (perhaps nothing was detected)']
        more = len(texts) - _MOST_METRICS
        rest = [f'and {more} more in the log file'] if more > 0 else []
        tell('  '.join(['validation', *texts[:_MOST_METRICS], *rest]))
