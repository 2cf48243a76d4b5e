"""One comparison from its first training to its table."""

import datetime
import logging
import math
import statistics
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from mmengine.config import Config

from mmdiffkd.comparison.configs import Configs
from mmdiffkd.comparison.report import ALONE, Comparison, Row, write_report
from mmdiffkd.comparison.run import Run, RunFailed
from mmdiffkd.errors import ConfigError, UserError, describe, suggest
from mmdiffkd.messages import tell

# Seeds from here on are those of the trials of --weights, however many others there will be.
_FIRST_TUNING_SEED = 1000
_USUAL_METRICS = ('coco/bbox_mAP', 'mIoU', 'accuracy/top1')


class Session:
    """Runs what is not finished, and keeps the results.

    Args:
        configs: Configs of all trainings.
        methods: Names of the methods.
        metric: Name of the metric to compare, chosen by default.
    """

    def __init__(self, configs: Configs, methods: Sequence[str], metric: Optional[str]) -> None:
        self.all, self.wanted = configs, metric
        saving = (configs.base.get('default_hooks') or {}).get('checkpoint') or {}
        self.saved, self.rule = saving.get('save_best') or (), saving.get('rule')
        title = f'{Path(configs.student).stem}, taught by {Path(configs.teacher).stem}'
        rows = {method: Row() for method in methods}
        self.found = Comparison(title, rows, smoke=configs.smoke)
        self.seconds: Dict[str, List[float]] = {}
        self.left: List[str] = []
        self.configs: Dict[str, Config] = {}
        for method in methods:
            tell(f'{method}: making the config')
            try:
                self.configs[method] = configs.of_method(method)
            except Exception as error:
                # The others can be compared without it.
                self._fail(method, str(error) if isinstance(error, UserError) else describe(error))

    def run(self, seeds: int, weights: Sequence[float], tuning_seeds: int) -> Comparison:
        """Do everything and return the figures."""
        taught = [name for name in self.configs if name != ALONE]
        tuned = taught if len(weights) > 1 else []
        self.left = tuned * len(weights) * tuning_seeds + [*self.configs] * seeds
        for method in taught if len(weights) == 1 else []:
            self.found.rows[method].factor = weights[0]
        self._test_teacher()
        for method in tuned:
            self._tune(method, weights, tuning_seeds)
        # A seed of all methods before the next one: what is interrupted can be compared.
        for seed in range(seeds):
            for method, cfg in self.configs.items():
                row = self.found.rows[method]
                result = self._attempt(method, self.all.training(method, cfg, seed, row.factor))
                if result is not None:
                    row.results[seed] = result
                write_report(self.found, self.all.folder)
        print(f'\n{write_report(self.found, self.all.folder)}')
        tell(f'The table is in {self.all.folder}/comparison.md, .txt and .json, with a picture')
        return self.found

    def _test_teacher(self) -> None:
        try:
            if (run := self.all.teacher_test()) is not None:
                metrics = self._perform('teacher', run)['metrics']
                self.found.teacher = metrics.get(self.found.metric)
        except (RunFailed, UserError) as error:
            self.found.teacher = f'failed: {error}'
            tell(f'teacher {self.found.teacher}', logging.ERROR)

    def _tune(self, method: str, weights: Sequence[float], number: int) -> None:
        """Choose the factor of a method's weights with the best mean of the metric."""
        tried, row = {}, self.found.rows[method]
        for factor in weights:
            values = []
            for seed in range(_FIRST_TUNING_SEED, _FIRST_TUNING_SEED + number):
                run = self.all.training(method, self.configs[method], seed, factor, tuning=True)
                metrics = (self._attempt(method, run) or {}).get('metrics', {})
                values.append(metrics.get(self.found.metric, math.nan))
            if math.isfinite(mean := statistics.fmean(values)):
                tried[factor] = mean
        if row.error and not tried:
            del self.configs[method]
            self.left = [name for name in self.left if name != method]
            return
        best = min if self.found.is_loss else max
        chosen = best(tried, key=tried.__getitem__) if tried else 1.0
        # An error was that of another factor, which is too large to train with.
        row.factor, row.tried, row.error = chosen, tried, None
        shown = ', '.join(f'{mean:.4g} with {factor:g}' for factor, mean in tried.items())
        why = f'{self.found.metric}: {shown}' if tried else 'the trials have no metric'
        tell(f'{method}: its weights are multiplied by {chosen:g} ({why})')

    def _attempt(self, method: str, run: Run) -> Optional[Dict[str, Any]]:
        """The result of a training, or None if it failed."""
        self.left.remove(method)
        try:
            result = self._perform(method, run)
        except RunFailed as error:
            self._fail(method, str(error))
            return None
        if result['seconds']:
            self.seconds.setdefault(method, []).append(result['seconds'])
        return result

    def _perform(self, method: str, run: Run) -> Dict[str, Any]:
        if (result := run.result()) is not None:
            tell(f'{run.title}: finished before')
        else:
            console = f'{run.folder}/console.log'
            tell(f'{run.title}: running, its output is in {console}{self._time(method)}')
            result = run.perform()
        metrics, found = result['metrics'], self.found
        found.metric = metric = found.metric or self._choose_metric([*metrics])
        found.is_loss = 'loss' in (metric or '') or self.rule == 'less'
        tell(
            f'{run.title}: '
            + (f'{metric} {metrics[metric]:.4g}' if metric in metrics else 'no metric')
        )
        return result

    def _time(self, method: str) -> str:
        """What is left to do after a run of a method, and how long all of it will take."""
        left = f'; trainings left after it: {len(self.left)}'
        if not self.seconds:
            return left
        means = {name: statistics.fmean(seconds) for name, seconds in self.seconds.items()}
        usual = statistics.fmean(means.values())
        total = sum(means.get(name, usual) for name in (method, *self.left))
        return f'{left}, about {datetime.timedelta(seconds=round(total))} for all'

    def _fail(self, method: str, error: str) -> None:
        self.found.rows[method].error = error
        tell(f'{method} failed: {error}', logging.ERROR)

    def _choose_metric(self, names: List[str]) -> Optional[str]:
        """The metric to compare, of those that a validation yields."""
        if self.wanted is not None and self.wanted not in names:
            hint = suggest(self.wanted, names) or f'; known are {", ".join(names)}'
            raise ConfigError(f'--metric: no metric {self.wanted!r} in the log{hint}')
        saved = [self.saved] if isinstance(self.saved, str) else self.saved
        wanted = (self.wanted, *saved, *_USUAL_METRICS, *names[:1])
        return next((name for name in wanted if name in names), None)
