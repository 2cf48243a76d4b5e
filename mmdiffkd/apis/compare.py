"""Methods of distillation side by side: the same student, teacher, schedule and seeds."""

import datetime
import logging
import math
import statistics
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, TextIO

import torch
from mmengine.config import Config

from mmdiffkd.apis.compare_configs import Configs
from mmdiffkd.apis.comparison import ALONE, Comparison, Row, write_report
from mmdiffkd.apis.distill import train_namespace
from mmdiffkd.apis.runs import Run, RunFailed, locked
from mmdiffkd.errors import ConfigError, UserError, describe, suggest
from mmdiffkd.messages import SHORT, tell, terminal

# Seeds from here on are those of the trials of --weights, however many others there will be.
_FIRST_TUNING_SEED = 1000
_USUAL_METRICS = ('coco/bbox_mAP', 'mIoU', 'accuracy/top1')


def compare(
    student: str,
    teacher: str,
    teacher_checkpoint: Optional[str] = None,
    methods: Sequence[str] = (ALONE, 'diffkd'),
    methods_file: Optional[str] = None,
    seeds: int = 3,
    weights: Sequence[float] = (),
    tuning_seeds: int = 1,
    metric: Optional[str] = None,
    gpus: Optional[int] = None,
    work_dir: Optional[str] = None,
    **train_arguments: Any,
) -> Comparison:
    """Train a student by several methods with several seeds, and compare what it reaches.

    Each training is a process of its own in ``<method>/seed-<n>`` below the work directory. What is
    finished is reused, what was interrupted goes on, and a run with another config there is a
    :class:`ConfigError`. The report is ``comparison.txt``, ``.md``, ``.json`` and ``.png``.

    Args:
        student: Config of the student with its data and schedule, a path or a ``library::name``.
        teacher: Config of the teacher, likewise.
        teacher_checkpoint: Weights of the teacher, as of :func:`mmdiffkd.apis.distill`.
        methods: Names of methods: ``'alone'`` for the student without a teacher, those of
            :func:`mmdiffkd.apis.distill`, and those of ``methods_file``.
        methods_file: Config with ``methods = dict(name=pairs, ...)``; the pairs are those of a
            distillation config.
        seeds: Number of trainings per method. Their seeds are 0, 1, ...
        weights: Factors of the weights of a method's pairs. Each is tried with a fifth of the
            training data as validation data, and the best one is taken.
        tuning_seeds: Number of trainings per method and factor. Their seeds are 1000, 1001, ...
        metric: Name of a metric of the validation, by default that of ``save_best``, or else the
            usual one of the task.
        gpus: Number of processes with ``launcher='pytorch'``, by default that of the GPUs.
        work_dir: Output folder, ``work_dirs/compare_<student>_from_<teacher>`` by default; a smoke
            run is in the folder ``smoke`` in it.
        **train_arguments: Flags of ``tools/train.py``, such as ``smoke``, ``amp``, ``cfg_options``.

    Returns:
        All figures. A method that failed has an ``error`` in its row.
    """
    args = train_namespace('compare', **train_arguments)
    name = f'{Path(student).stem}_from_{Path(teacher).stem}'
    folder = Path(work_dir or Path('work_dirs', f'compare_{name}'), 'smoke' if args.smoke else '')
    if seeds < 1 or tuning_seeds < 1 or any(factor <= 0 for factor in weights):
        raise ConfigError('--seeds, --tuning-seeds and --weights must be above 0')
    processes = _processes(args.launcher, gpus)
    with terminal(None if args.verbose else SHORT):
        configs = Configs(
            student, teacher, teacher_checkpoint, methods_file, args, folder, processes
        )
        configs.check_names(methods)
        with locked(folder) as lock:
            session = _Session(configs, methods, metric, lock)
            try:
                return session.run(range(seeds), weights, tuning_seeds)
            except KeyboardInterrupt:
                raise SystemExit(130) from None


def _processes(launcher: str, gpus: Optional[int]) -> int:
    """The number of processes of a training; 0 for one without a process group."""
    if launcher not in ('none', 'pytorch') or (gpus is not None and launcher == 'none'):
        raise ConfigError(f'--launcher {launcher}: several GPUs need --launcher pytorch [--gpus N]')
    if launcher == 'none':
        return 0
    number = torch.cuda.device_count() if gpus is None else gpus
    if number < 1:
        raise ConfigError('--gpus: there is no GPU; give the number of processes on CPUs')
    return number


class _Session:
    """Runs what is not finished, and keeps the results."""

    def __init__(
        self, configs: Configs, methods: Sequence[str], metric: Optional[str], lock: TextIO
    ) -> None:
        self.all, self.wanted, self.lock = configs, metric, lock
        self.metric: Optional[str] = None
        self.smoke = configs.args.smoke
        self.errors: Dict[str, str] = {}
        self.configs: Dict[str, Config] = {}
        for method in methods:
            tell(f'{method}: making the config')
            try:
                self.configs[method] = configs.of_method(method)
            except Exception as error:
                # The others can be compared without it.
                text = str(error) if isinstance(error, UserError) else describe(error)
                self._fail(method, text)
        self.rows = {method: Row({}) for method in methods}
        self.seconds: Dict[str, List[float]] = {}
        self.left: List[str] = []
        self.teacher: Optional[Dict[str, float]] = None
        self.teacher_note = 'random weights'

    def run(self, seeds: Sequence[int], weights: Sequence[float], tuning_seeds: int) -> Comparison:
        """Do everything and return the figures."""
        tuned = [name for name in self.configs if name != ALONE] if weights else []
        self.left = [name for name in tuned for _ in weights for _ in range(tuning_seeds)]
        self.left += [name for _ in seeds for name in self.configs]
        self._test_teacher()
        for method in tuned:
            if self._tune(method, weights, tuning_seeds) is None:
                del self.configs[method]
                self.left = [name for name in self.left if name != method]
        # A seed of all methods before the next one: what is interrupted can be compared.
        for seed in seeds:
            for method, cfg in self.configs.items():
                row = self.rows[method]
                result = self._attempt(method, self.all.training(method, cfg, seed, row.factor))
                if result is not None:
                    row.results[seed] = result
                write_report(self._comparison(), self.all.folder)
        print(f'\n{write_report(self._comparison(), self.all.folder)}\n')
        tell(f'The table is in {self.all.folder}/comparison.md, .txt and .json, with a picture')
        return self._comparison()

    def _test_teacher(self) -> None:
        try:
            run = self.all.teacher_test()
            if run is not None:
                self.teacher = self._perform('teacher', run)['metrics']
        except (RunFailed, UserError) as error:
            self.teacher_note = f'failed: {error}'
            tell(f'teacher: {self.teacher_note}', logging.ERROR)

    def _tune(self, method: str, weights: Sequence[float], number: int) -> Optional[float]:
        """The factor of a method's weights with the best mean of the metric; None if all failed."""
        means, passed = {}, False
        for factor in weights:
            values = []
            for seed in range(_FIRST_TUNING_SEED, _FIRST_TUNING_SEED + number):
                run = self.all.training(method, self.configs[method], seed, factor, tuning=True)
                result = self._attempt(method, run)
                passed = passed or result is not None
                values.append((result or {}).get('metrics', {}).get(self.metric, math.nan))
            means[factor] = statistics.fmean(values)
        known = {factor: mean for factor, mean in means.items() if math.isfinite(mean)}
        best = min if self._is_loss() else max
        chosen = best(known, key=known.__getitem__) if known else 1.0
        self.rows[method] = Row({}, factor=chosen, tried=known)
        if passed:
            # Another factor may have been too large to train with.
            self.errors.pop(method, None)
        tried = ', '.join(f'{mean:.4g} with {factor:g}' for factor, mean in means.items())
        tell(f'{method}: its weights are multiplied by {chosen:g} ({self.metric}: {tried})')
        return chosen if passed else None

    def _attempt(self, method: str, run: Run) -> Optional[Dict[str, Any]]:
        """The result of a training, or None if it failed."""
        self.left.remove(method)
        try:
            result = self._perform(method, run)
        except RunFailed as error:
            self._fail(method, str(error))
            return None
        if result.get('seconds'):
            self.seconds.setdefault(method, []).append(result['seconds'])
        if self.metric is None:
            self.metric = self._choose_metric(list(result['metrics']))
        return result

    def _perform(self, method: str, run: Run) -> Dict[str, Any]:
        if (result := run.result()) is not None:
            tell(f'{run.title}: finished before')
            return result
        tell(f'{run.title}: running, its output is in {run.folder}/console.log{self._time(method)}')
        result = run.perform(self.lock)
        shown = self._choose_metric(list(result['metrics']))
        end = f'{shown} {result["metrics"][shown]:.4g}' if shown else 'finished without a metric'
        tell(f'{run.title}: {end}')
        return result

    def _time(self, method: str) -> str:
        """What is left to do after a run of a method, and how long all of it will take."""
        means = {name: statistics.fmean(seconds) for name, seconds in self.seconds.items()}
        left = f'; {len(self.left)} trainings left after it'
        if not means:
            return left
        usual = statistics.fmean(means.values())
        total = sum(means.get(name, usual) for name in (method, *self.left))
        return f'{left}, about {datetime.timedelta(seconds=round(total))} for all'

    def _fail(self, method: str, error: str) -> None:
        self.errors[method] = error
        tell(f'{method} failed: {error}', logging.ERROR)

    def _choose_metric(self, names: List[str]) -> Optional[str]:
        """The metric to compare, of those that a validation yields."""
        if self.wanted is not None and self.wanted not in names:
            hint = suggest(self.wanted, names) or f'; known are {", ".join(names)}'
            raise ConfigError(f'--metric: no metric {self.wanted!r} in the log{hint}')
        saved = (self.all.base.get('default_hooks') or {}).get('checkpoint') or {}
        saved = saved.get('save_best')
        saved = [saved] if isinstance(saved, str) else list(saved or ())
        wanted = filter(None, (self.wanted, *saved, *_USUAL_METRICS, *names[:1]))
        return next((name for name in wanted if name in names), None)

    def _is_loss(self) -> bool:
        saving = (self.all.base.get('default_hooks') or {}).get('checkpoint') or {}
        return 'loss' in (self.metric or '') or saving.get('rule') == 'less'

    def _comparison(self) -> Comparison:
        rows = {name: row._replace(error=self.errors.get(name)) for name, row in self.rows.items()}
        title = f'{Path(self.all.student).stem}, taught by {Path(self.all.teacher).stem}'
        return Comparison(
            title, self.metric, self._is_loss(), rows, self.teacher, self.teacher_note, self.smoke
        )
