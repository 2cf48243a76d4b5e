#!/usr/bin/env python
"""Is anything lost when a run is killed? SIGKILL at random moments, then a comparison bit by bit.

A short detection run is trained without a break, and then again and again: killed at random with
its data loading workers, and started again with --resume --exact-resume until it ends. Weights,
moments of the optimizer and schedules must be those of the unbroken run.

    python benchmarks/kill_and_resume.py --kills 30
"""

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator, List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch
from mmengine.config import Config

from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.testing import make_mini_dataset

CONFIG = ROOT / 'configs/quickstart/diffkd_retinanet_mini-coco.py'
NUM_IMAGES, BATCH_SIZE, EPOCHS = 8, 2, 2
ITERATIONS = EPOCHS * NUM_IMAGES // BATCH_SIZE
# The last checkpoint of each kind of run.
LAST = {'epochs': f'epoch_{EPOCHS}.pth', 'iterations': f'iter_{ITERATIONS}.pth'}
COMPARED = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')


def main() -> None:
    args = parse_args()
    folder, draw = args.work_dir, random.Random(0)
    shutil.rmtree(folder, ignore_errors=True)
    sizes = dict(num_train=NUM_IMAGES, num_val=2, image_size=(160, 96))
    data = make_mini_dataset('coco', folder / 'data', **sizes)
    unbroken, seconds = {}, {}
    for kind in args.by:
        write_config(kind, data, folder / f'{kind}.py')
        start = time.monotonic()
        survive(folder / f'{kind}.py', folder / f'unbroken_{kind}', [])
        seconds[kind] = time.monotonic() - start
        unbroken[kind] = load_file(folder / f'unbroken_{kind}' / LAST[kind])
        print(f'unbroken run by {kind}: {seconds[kind]:.0f} s', flush=True)
    kills = 0
    for kind in itertools.cycle(args.by):
        moments = [draw.uniform(0, seconds[kind]) for _ in range(args.kills - kills)]
        killed = survive(folder / f'{kind}.py', folder / 'broken', moments)
        kills += len(killed)
        ours, theirs = unbroken[kind], load_file(folder / 'broken' / LAST[kind])
        places = [place for key in COMPARED for place in differences(ours[key], theirs[key], key)]
        verdict = f'DIFFERENT in {places[0]}' if places else 'identical'
        when = ', '.join(f'{moment:.1f}' for moment in killed) or 'no'
        print(f'run by {kind}, killed after {when} s: {verdict}', flush=True)
        if places:
            sys.exit(1)
        shutil.rmtree(folder / 'broken')
        if kills >= args.kills:
            break
    print(f'{kills} kills; all runs ended with the weights of the unbroken one')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    add = parser.add_argument
    add('--kills', type=int, default=30, help='how often to kill (default: 30)')
    add('--by', nargs='+', choices=list(LAST), default=list(LAST), help='kinds of runs')
    add('--work-dir', type=Path, default=Path('work_dirs/kill_and_resume'),
        help='folder that is emptied at the start (default: %(default)s)')  # fmt: skip
    return parser.parse_args()


def write_config(kind: str, data: Path, path: Path) -> None:
    """The quickstart's config, shortened, with random weights and two data loading workers."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.teacher.checkpoint = 'random'
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.batch_size = BATCH_SIZE
        loader.dataset.data_root = f'{data}/'
    cfg.train_dataloader.num_workers = 2
    cfg.val_evaluator.ann_file = f'{data}/annotations/instances_val2017.json'
    cfg.custom_hooks = [dict(type='EMAHook')]
    saving = dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)
    if kind == 'epochs':
        cfg.train_cfg.update(max_epochs=EPOCHS, val_interval=1)
    else:
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=4)
        cfg.train_dataloader.sampler.type = 'InfiniteSampler'
        cfg.param_scheduler = cfg.param_scheduler[:1]
        saving.update(interval=2, by_epoch=False)
    cfg.default_hooks.checkpoint = saving
    cfg.dump(path)


def survive(config: Path, folder: Path, moments: List[float]) -> List[float]:
    """Start a run until it ends, and kill it at these moments, in seconds after each start.

    Returns the moments at which it was killed.
    """
    command = [sys.executable, ROOT / 'tools/train.py', config, '--work-dir', folder]
    command = [*map(str, command), '--resume', '--exact-resume']
    log = config.with_suffix('.txt')
    killed = []
    while True:
        moment = moments[len(killed)] if len(killed) < len(moments) else None
        with log.open('a') as stream:
            options = dict(stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
            process = subprocess.Popen(command, **options)
        try:
            status = process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed.append(moment)
            continue
        if status != 0:
            sys.exit(f'error: the run ended with status {status}, see {log}')
        return killed


def differences(one: Any, other: Any, where: str) -> Iterator[str]:
    """The places where parts of two checkpoints are not the same to the bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.numpy().tobytes() != other.numpy().tobytes():
            yield where
    elif isinstance(one, (dict, list, tuple)) and isinstance(other, type(one)):
        parts = [dict(p) if isinstance(p, dict) else dict(enumerate(p)) for p in (one, other)]
        for key in parts[0].keys() | parts[1].keys():
            yield from differences(*(part.get(key) for part in parts), f'{where}.{key}')
    elif one != other:
        yield where


if __name__ == '__main__':
    main()
