#!/usr/bin/env python
"""Is anything lost when a run is killed? SIGKILL at random moments, then a comparison bit by bit.

A short detection run is trained once without a break, and then again and again: killed at a random
moment with its data loading workers, started again with --resume --exact-resume, until it ends.
Weights, moments of the optimizer and schedules must be those of the unbroken run. Every other run
is by iterations instead of epochs, and all write checkpoints all the time.

    python benchmarks/experiments/kill_and_resume.py --kills 30
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch
from mmengine.config import Config

from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.testing import make_mini_dataset

CONFIG = ROOT / 'configs/quickstart/diffkd_retinanet_mini-coco.py'
NUM_IMAGES, BATCH_SIZE, EPOCHS = 12, 2, 3
ITERATIONS = EPOCHS * NUM_IMAGES // BATCH_SIZE
# The last checkpoint of each kind of run.
LAST = {'epochs': f'epoch_{EPOCHS}.pth', 'iterations': f'iter_{ITERATIONS}.pth'}
COMPARED = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')


def main() -> None:
    args = parse_args()
    shutil.rmtree(args.work_dir, ignore_errors=True)
    data = make_mini_dataset(
        'coco', args.work_dir / 'data', num_train=NUM_IMAGES, num_val=2, image_size=(160, 96)
    )
    draw = random.Random(args.seed)
    unbroken, seconds = {}, {}
    for kind in args.by:
        write_config(kind, data, config_of(args.work_dir, kind))
        start = time.monotonic()
        folder = args.work_dir / f'unbroken_{kind}'
        survive(args.work_dir, kind, folder, draw, most=0)
        seconds[kind] = time.monotonic() - start
        unbroken[kind] = load_file(folder / LAST[kind])
        print(f'unbroken run by {kind}: {seconds[kind]:.0f} s', flush=True)
    kills = runs = 0
    while kills < args.kills:
        kind = args.by[runs % len(args.by)]
        runs += 1
        folder = args.work_dir / f'broken_{kind}_{runs}'
        moments = survive(args.work_dir, kind, folder, draw, args.kills - kills, seconds[kind])
        kills += len(moments)
        different = differences(unbroken[kind], load_file(folder / LAST[kind]))
        killed = ', '.join(f'{moment:.1f}' for moment in moments) or 'not'
        verdict = f'DIFFERENT in {different[0]}' if different else 'identical'
        print(f'run {runs} by {kind}, killed after {killed} s: {verdict}', flush=True)
        if different:
            sys.exit(1)
        shutil.rmtree(folder)
    print(f'{kills} kills in {runs} runs; all ended with the weights of the unbroken run')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=30, help='how often to kill (default: 30)')
    parser.add_argument(
        '--by', nargs='+', choices=list(LAST), default=list(LAST), help='kinds of runs'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the moments (default: 0)')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/kill_and_resume'),
        help='emptied at the start (default: %(default)s)',
    )
    return parser.parse_args()


def config_of(work_dir: Path, kind: str) -> Path:
    return work_dir / f'{kind}.py'


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


def train(work_dir: Path, kind: str, folder: Path) -> subprocess.Popen:
    """Start, or go on with, a run in a process group of its own."""
    command = [sys.executable, str(ROOT / 'tools/train.py'), str(config_of(work_dir, kind))]
    log = (work_dir / 'log.txt').open('a')
    return subprocess.Popen(
        [*command, '--work-dir', str(folder), '--resume', '--exact-resume'],
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def survive(
    work_dir: Path, kind: str, folder: Path, draw: random.Random, most: int, seconds: float = 0.0
) -> List[float]:
    """Kill a run at random moments until it has ended all the same.

    Args:
        work_dir: Of the experiment.
        kind: Of run.
        folder: Work directory of the run.
        draw: Source of the moments.
        most: How often to kill.
        seconds: What an unbroken run takes.

    Returns:
        Seconds after which it was killed, one for each time.
    """
    moments = []
    while True:
        process = train(work_dir, kind, folder)
        moment = draw.uniform(0, seconds) if len(moments) < most else None
        try:
            status = process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            moments.append(moment)
            continue
        if status != 0:
            sys.exit(f'error: the run ended with status {status}, see {work_dir / "log.txt"}')
        return moments


def differences(one: Any, other: Any, where: str = '') -> List[str]:
    """Where two checkpoints are not the same to the bit."""
    if not where:
        return [d for key in COMPARED for d in differences(one[key], other[key], key)]
    if isinstance(one, torch.Tensor):
        same = one.numpy().tobytes() == other.numpy().tobytes()
        return [] if same else [where]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [where]
        return [d for key in one for d in differences(one[key], other[key], f'{where}.{key}')]
    if isinstance(one, (list, tuple)):
        pairs = enumerate(zip(one, other))
        different = [d for i, pair in pairs for d in differences(*pair, f'{where}[{i}]')]
        return different if len(one) == len(other) else [where]
    return [] if one == other else [where]


if __name__ == '__main__':
    main()
