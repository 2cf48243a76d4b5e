#!/usr/bin/env python
"""Train miniatures of 20 iterations with tools/train.py: mixed precision, resuming, averages, DDP.

Each is a process of its own, and four run at once: more would wait for their imports.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from rows import ROOT, Rows, parse_part_args

import torch  # isort: skip
from miniature import DETECTOR, ITERATIONS, LIBRARY_OF, SMALL_CLASSIFIER, miniature


class Trainings:
    """Runs ``tools/train.py`` in folders of its own.

    Args:
        folder: Where the folders are made.
        rows: Where a training that fails is reported.
        amp: Whether the trainings use mixed precision, which mmengine has on GPUs only.
    """

    def __init__(self, folder: Path, rows: Rows, amp: bool) -> None:
        self.folder, self.rows = folder, rows
        self.flags = ['--amp'] if amp else []
        # Registries of mmengine have one scope for all threads.
        self.lock = threading.Lock()

    def run(
        self,
        name: str,
        config: str,
        flags: Sequence[str] = (),
        launch: Sequence[str] = (),
        **changes: Any,
    ) -> Optional[Path]:
        """Train, and report an error; the folder of the training, or None after an error."""
        folder = self.folder / name.replace(' ', '-')
        with self.lock:
            cfg = miniature(config, folder, **changes)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder.with_suffix('.py')
        cfg.dump(path)
        command = [*(launch or [sys.executable]), str(ROOT / 'tools' / 'train.py'), str(path)]
        command += ['--work-dir', str(folder), *self.flags, *flags]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder)
        if done.returncode != 0:
            lines = (done.stdout + done.stderr).splitlines()
            last = [line for line in lines if line.strip()][-12:]
            self.rows.add(name, False, text=' | '.join(last))
            return None
        return folder

    def losses(self, folder: Path) -> List[float]:
        """The loss of each iteration in the log of a training."""
        log = max(folder.glob('*/vis_data/scalars.json'))
        scalars = map(json.loads, log.read_text().splitlines())
        return [row['loss'] for row in scalars if 'loss' in row]

    def falls(self, name: str, config: str, **settings: Any) -> None:
        """Report whether the loss of a training falls."""
        folder = self.run(name, config, **settings)
        if folder is not None:
            losses = self.losses(folder)
            # Single steps of a detector jump.
            first, last = statistics.median(losses[:5]), statistics.median(losses[-5:])
            passed = len(losses) == ITERATIONS and last < first
            self.rows.add(name, passed, **{'first loss': first, 'last loss': last})

    def resumes(self, name: str, **settings: Any) -> None:
        """Report whether a training that was stopped and goes on equals one that was not."""
        exact = ['--exact-resume']
        settings = dict(settings, **{'randomness.deterministic': True})
        whole = self.run(f'{name} whole', SMALL_CLASSIFIER, exact, **settings)
        if whole is None:
            return
        # Two epochs of ten iterations; the first one's checkpoint is where the other goes on.
        half = {**settings, 'train_cfg.max_epochs': 1}
        first = self.run(f'{name} part', SMALL_CLASSIFIER, exact, **half)
        if first is None:
            return
        second = self.run(f'{name} part', SMALL_CLASSIFIER, [*exact, '--resume'], **settings)
        if second is None:
            return
        states = [
            torch.load(at / 'epoch_2.pth', map_location='cpu', weights_only=False)
            for at in (whole, second)
        ]
        keys = [key for key in ('state_dict', 'ema_state_dict') if key in states[0]]
        unequal = [
            f'{key} {entry}'
            for key in keys
            for entry, value in states[0][key].items()
            if not torch.equal(value, states[1][key][entry])
        ]
        self.rows.add(name, not unequal, compared=', '.join(keys), unequal=len(unequal))


def jobs(trainings: Trainings, device: str) -> List[Callable[[], None]]:
    """The checks whose library is installed, the longest ones first."""
    falls, resumes, small = trainings.falls, trainings.resumes, SMALL_CLASSIFIER
    epochs = {'train_cfg.max_epochs': 2, 'train_dataloader.dataset.times': ITERATIONS // 4}
    average = dict(type='EMAHook', momentum=0.1)
    on_cpu = dict(average, device='cpu')
    compiled = {f'model.pairs.{pair}.head.compile': True for pair in ('features', 'logits')}
    compiled['model.teacher.compile'] = True
    accumulated = {'optim_wrapper.accumulative_counts': 2}
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=1']
    ddp: Dict[str, Any] = dict(launch=torchrun, flags=['--launcher', 'pytorch'])
    if device == 'cuda':
        ddp.update(sync_bn='torch')
    found = [
        ('mmpretrain', partial(resumes, 'EMA, resumed', **epochs, custom_hooks=[average])),
        (
            'mmpretrain',
            partial(resumes, 'EMA on a CPU, resumed', **epochs, custom_hooks=[on_cpu]),
        ),
        ('mmpretrain', partial(falls, 'compiled teacher and heads', small, **compiled)),
        ('mmpretrain', partial(falls, 'DDP, gradient accumulation', small, **ddp, **accumulated)),
        ('mmdet', partial(falls, 'DDP, detector', DETECTOR, **ddp)),
    ]
    for name, library in LIBRARY_OF.items():
        found.append((library, partial(falls, f'{library}, 20 iterations', name)))
    return [job for library, job in found if trainings.rows.has(job.args[0], library)]


def main() -> None:
    args = parse_part_args(__doc__)
    os.environ['OMP_NUM_THREADS'] = '1'
    os.environ['CUBLAS_WORKSPACE_CONFIG'] = ':4096:8'  # deterministic matrix products
    with tempfile.TemporaryDirectory() as folder:
        trainings = Trainings(Path(folder), args.rows, args.device == 'cuda')
        with ThreadPoolExecutor(max_workers=4) as pool:
            for job in [pool.submit(job) for job in jobs(trainings, args.device)]:
                job.result()


if __name__ == '__main__':
    main()
