#!/usr/bin/env python
"""Compare kinds of distillation on handwritten digits, in minutes on a CPU.

The script trains the teacher, the student alone, and the student with three kinds of distillation
(configs/digits) once per seed, and writes a table of their accuracy on the test images. A second
run reuses the trainings that are finished.
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import cv2
import numpy as np
from mmengine.config import Config

from mmdiffkd import __version__
from mmdiffkd.apis import ArgumentParser, KeyValueAction, build_runner
from mmdiffkd.errors import ConfigError
from mmdiffkd.testing import build_once

CONFIGS = ROOT / 'configs/digits'
TEACHER = 'teacher'
BASELINE = 'student alone'
# Rows of the table, in their order, and their configs.
METHODS = {
    TEACHER: 'teacher_digits.py',
    BASELINE: 'student_digits.py',
    'logit KD': 'logit-kd_digits.py',
    'pairs of DiffKD, no diffusion': 'diffkd-without-diffusion_digits.py',
    'DiffKD': 'diffkd_digits.py',
}
# Images of each digit; the rest, 1197 images, is for testing.
SPLIT = dict(train=30, val=30)


class Run(NamedTuple):
    """One training.

    Attributes:
        method: Row of the table.
        seed: Seed of everything random in the training.
        work_dir: Work directory of the experiment.
        data: Root of the data set.
        options: Overrides of the config.
    """

    method: str
    seed: int
    work_dir: Path
    data: Path
    options: Dict[str, Any]

    @property
    def directory(self) -> Path:
        """Where its logs and its checkpoint go."""
        return self.work_dir / f'seed{self.seed}' / Path(METHODS[self.method]).stem

    def config(self) -> Config:
        """The complete config."""
        cfg = Config.fromfile(CONFIGS / METHODS[self.method])
        for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            cfg[key].dataset.data_root = f'{self.data}/'
        cfg.merge_from_dict(self.options)
        cfg.randomness = dict(seed=self.seed)
        cfg.work_dir = str(self.directory)
        # Runners of one process need names of their own.
        cfg.experiment_name = '_'.join(self.directory.parts[-2:])
        # As in run_all; nothing is started here.
        cfg.env_cfg.mp_cfg.mp_start_method = 'spawn'
        return cfg

    def fingerprint(self) -> str:
        """A hash of all that determines the result, except the machine."""
        content = [__version__, SPLIT, self.config().to_dict()]
        if 'teacher' in self.config().model:
            content.append(self._replace(method=TEACHER).fingerprint())
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/digits'),
        help='where everything goes (default: %(default)s)',
    )
    parser.add_argument(
        '--data',
        type=Path,
        default=Path('data/digits'),
        help='where the images are, or are put (default: %(default)s)',
    )
    parser.add_argument('--prepare-only', action='store_true', help='write the images, no more')
    parser.add_argument(
        '--jobs', type=int, default=2, help='trainings side by side (default: %(default)s)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValueAction,
        default={},
        metavar='KEY=VALUE',
        help='override settings of all configs',
    )
    return parser.parse_args()


def prepare_data(root: Path) -> Path:
    """Write scikit-learn's digits as ``<root>/<train|val|test>/<digit>/<index>.png``.

    The split is the same whatever the seed of a training. Pixels 0..16 become 0..255.

    Raises:
        ConfigError: ``root`` holds something else.
    """
    return build_once(root, dict(kind='scikit-learn digits', **SPLIT), _write_digits)


def _write_digits(root: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = np.round(digits.images * (255 / 16)).astype(np.uint8)
    rng = np.random.RandomState(0)  # its numbers never change
    for digit in range(10):
        indices = rng.permutation(np.flatnonzero(digits.target == digit))
        train, val = np.cumsum([SPLIT['train'], SPLIT['val']])
        parts = dict(train=indices[:train], val=indices[train:val], test=indices[val:])
        for name, part in parts.items():
            folder = root / name / str(digit)
            folder.mkdir(parents=True)
            for index in part:
                cv2.imwrite(str(folder / f'{index:04d}.png'), pictures[index])


def finish(run: Run) -> Dict[str, Any]:
    """Train and test a run, unless that has been done.

    Returns:
        ``method``, ``seed``, ``fingerprint``, ``val`` and ``test`` accuracy in percent,
        ``seconds`` that the training took, and whether it was ``reused``.
    """
    path = run.directory / 'result.json'
    fingerprint = run.fingerprint()
    if path.is_file():
        found = json.loads(path.read_text())
        if found['fingerprint'] == fingerprint:
            return dict(found, reused=True)
    run.directory.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with (
        (run.directory / 'console.log').open('w') as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        measured = train_and_test(run)
    result = dict(method=run.method, seed=run.seed, fingerprint=fingerprint, **measured)
    path.write_text(json.dumps(result, indent=2) + '\n')
    return dict(result, reused=False)


def train_and_test(run: Run) -> Dict[str, float]:
    """The accuracies after the last epoch, whatever they were before, and the time."""
    cfg = run.config()
    if 'teacher' in cfg.model:
        cfg.model.teacher.checkpoint = str(last_checkpoint(run._replace(method=TEACHER).directory))
    runner = build_runner(cfg)
    start = time.monotonic()
    runner.train()
    seconds = time.monotonic() - start
    return dict(
        val=runner.val_loop.run()['accuracy/top1'],
        test=runner.test()['accuracy/top1'],
        seconds=seconds,
    )


def last_checkpoint(directory: Path) -> Path:
    """The final checkpoint of a finished run."""
    return directory / Path((directory / 'last_checkpoint').read_text().strip()).name


def run_all(runs: Sequence[Run], jobs: int) -> List[Dict[str, Any]]:
    """Teachers first, then what learns from them; one line for each that is finished."""
    teachers = [run for run in runs if run.method == TEACHER]
    students = [run for run in runs if run.method != TEACHER]
    results = []
    # Not forked: what a process does with torch's threads is best done once.
    with multiprocessing.get_context('spawn').Pool(jobs) as pool:
        for stage in (teachers, students):
            for result in pool.imap_unordered(finish, stage):
                results.append(result)
                how = 'finished before' if result['reused'] else f'{result["seconds"]:.0f} s'
                print(
                    f'[{len(results):>2}/{len(runs)}] seed {result["seed"]}  '
                    f'{result["method"]:<{max(map(len, METHODS))}}  {result["test"]:5.2f} %  {how}',
                    flush=True,
                )
    return results


def summarise(results: Sequence[Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
    """Accuracy on the test images per method.

    Returns:
        For each method, in the order of :data:`METHODS`: ``seeds`` from seed to accuracy,
        ``mean`` and ``std`` of these, ``gain`` and ``gain_std`` of the differences to the student
        alone with the same seed. All in percent; standard deviations are those of a sample, None
        for a single seed.
    """
    accuracies = {
        method: {r['seed']: r['test'] for r in results if r['method'] == method}
        for method in METHODS
    }
    summary = {}
    for method, seeds in accuracies.items():
        mean, std = mean_and_std(seeds.values())
        gain, gain_std = mean_and_std(
            accuracy - accuracies[BASELINE][seed] for seed, accuracy in seeds.items()
        )
        seeds = dict(sorted(seeds.items()))
        summary[method] = dict(mean=mean, std=std, gain=gain, gain_std=gain_std, seeds=seeds)
    return summary


def mean_and_std(values: Iterable[float]) -> Tuple[float, Optional[float]]:
    values = list(values)
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def markdown(summary: Dict[str, Dict[str, Any]]) -> str:
    """The table."""
    seeds = [f'seed {seed}' for seed in summary[BASELINE]['seeds']]
    header = ['', 'mean', 'over the student alone', *seeds]
    rows = [header, ['---', *['---:'] * (len(header) - 1)]]
    for method, row in summary.items():
        gain = '' if method == BASELINE else with_spread('{:+.2f}', row['gain'], row['gain_std'])
        mean = with_spread('{:.2f}', row['mean'], row['std'])
        rows.append([method, mean, gain, *(f'{value:.2f}' for value in row['seeds'].values())])
    return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def with_spread(pattern: str, mean: float, std: Optional[float]) -> str:
    return pattern.format(mean) + ('' if std is None else f' ± {std:.2f}')


def main() -> None:
    args = parse_args()
    # Operations this small gain nothing from a second thread.
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    try:
        data = prepare_data(args.data)
        print(f'images in {data}', flush=True)
        if args.prepare_only:
            return
        work_dir = args.work_dir.resolve()
        seeds = list(dict.fromkeys(args.seeds))
        results = run_all(
            [Run(m, seed, work_dir, data, args.cfg_options) for m in METHODS for seed in seeds],
            args.jobs,
        )
    except KeyboardInterrupt:
        sys.exit('\ninterrupted; the next run goes on with what is unfinished')
    except ConfigError as error:
        sys.exit(f'error: {error}')
    summary = summarise(results)
    table = markdown(summary)
    (work_dir / 'results.json').write_text(
        json.dumps(dict(summary=summary, runs=results), indent=2) + '\n'
    )
    (work_dir / 'table.md').write_text(table)
    print(f'\nAccuracy on the test images in percent, mean ± standard deviation\n\n{table}')
    print(f'also in {work_dir}/table.md and results.json')


if __name__ == '__main__':
    main()
