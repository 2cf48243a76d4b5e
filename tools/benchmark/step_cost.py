#!/usr/bin/env python
"""What distillation adds to a training step: the student alone against the distiller.

Both are built from one distillation config, with random weights, and take turns on the same
batch of miniature data in one process, so that a drift of the machine's speed hits both alike.
The figures are medians.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from mmdiffkd.testing import make_smoke_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of a distillation config')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(320, 320), metavar=('W', 'H'),
        help='image size in pixels (default: 320 320)',
    )  # fmt: skip
    parser.add_argument('--steps', type=int, default=10, help='counted steps of each (default: 10)')
    parser.add_argument('--warmup', type=int, default=2, help='steps not counted (default: 2)')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cpu or cuda'
    )
    return parser.parse_args()


class Contender:
    """A model with its optimizer, trained step by step on one batch."""

    def __init__(self, model_cfg, cfg: Config, batch: dict, device: str) -> None:
        self.model = MODELS.build(model_cfg).to(device).train()
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self.batch = batch
        self.device = device
        self.milliseconds = []

    def step(self) -> None:
        """Train one step and note its time."""
        start = self._now()
        self.model.train_step(self.batch, self.optim_wrapper)
        self.milliseconds.append(1000 * (self._now() - start))

    def _now(self) -> float:
        if self.device != 'cpu':
            torch.cuda.synchronize()
        return time.perf_counter()


def main() -> None:
    args = parse_args()
    torch.manual_seed(0)
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.default_scope)
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        cfg = make_smoke_config(cfg, image_size=tuple(args.size))
        batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
    student = Contender(cfg.model.student, cfg, batch, args.device)
    distiller = Contender(cfg.model, cfg, batch, args.device)
    for _ in range(args.warmup + args.steps):
        student.step()
        distiller.step()
    times = [contender.milliseconds[args.warmup :] for contender in (student, distiller)]
    ratio = statistics.median(second / first for first, second in zip(*times))
    shapes = ', '.join('x'.join(map(str, image.shape[1:])) for image in batch['inputs'])
    device = torch.cuda.get_device_name() if args.device != 'cpu' else 'CPU'
    print(f'{Path(args.config).stem}, images {shapes}, {device}, {torch.get_num_threads()} threads')
    for name, values in zip(('student alone', 'distiller'), times):
        print(f'{name:>14} {statistics.median(values):8.0f} ms per training step')
    print(f'{"ratio":>14} {ratio:8.2f}')


if __name__ == '__main__':
    main()
