#!/usr/bin/env python
"""Count where a training step waits for the GPU, with the loss check and telemetry of a normal run.

CUDA tells of each wait with the line of Python that caused it. Hosts wait when they assign boxes;
this package must not, except in the iterations in which it writes or draws something.
"""

import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Dict

from rows import ROOT, Rows, parse_part_args

import torch  # isort: skip
from miniature import LIBRARY_OF, miniature
from mmengine.hooks import Hook

from mmdiffkd.apis.policy import apply_training_policy
from mmdiffkd.engine.runner import DistillRunner
from mmdiffkd.models.configs import add_hook

PACKAGE = str(ROOT / 'mmdiffkd')
NOT_CAUSES = (str(Path(torch.__file__).parent), warnings.__file__)
# Iterations in which nothing is logged, between the first one and the interval of the logs.
WATCHED = range(11, 19)


class WaitCounter(Hook):
    """Counts the waits of the watched iterations by the line that caused them.

    Attributes:
        ours: Waits caused by a line of this package.
        others: Waits caused by any other line.
    """

    priority = 'HIGHEST'

    def __init__(self) -> None:
        self.ours: Counter = Counter()
        self.others: Counter = Counter()

    def before_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Begin to watch, or end it."""
        torch.cuda.set_sync_debug_mode('warn' if runner.iter in WATCHED else 'default')

    def see(self, message: Any, *args: Any, **kwargs: Any) -> None:
        """Take the place of :func:`warnings.showwarning`."""
        if 'synchroniz' not in str(message):
            return
        frame = sys._getframe(1)
        while frame.f_code.co_filename.startswith(NOT_CAUSES):
            frame = frame.f_back
        path = frame.f_code.co_filename
        counter = self.ours if path.startswith(PACKAGE) else self.others
        counter[f'{Path(path).name}:{frame.f_lineno}'] += 1


def count_waits(name: str, folder: str) -> WaitCounter:
    """The waits of a training of a config of ``configs/diffkd``."""
    cfg = miniature(name, Path(folder))
    add_hook(cfg, 'mmdiffkd.TelemetryHook', interval=1000)
    cfg.default_hooks.logger.interval = 1000
    apply_training_policy(cfg)
    runner = DistillRunner.from_cfg(cfg)
    runner.register_hook(counter := WaitCounter())
    with warnings.catch_warnings():
        warnings.simplefilter('always')
        warnings.showwarning = counter.see
        runner.train()
    return counter


def report(rows: Rows, name: str, counter: WaitCounter) -> None:
    """A row of the waits per iteration, and the lines that caused ours."""
    steps = len(WATCHED)
    lines: Dict[str, Any] = {line: count / steps for line, count in counter.ours.most_common(8)}
    most = [line for line, _ in counter.others.most_common(3)]
    figures = {
        'ours': sum(counter.ours.values()) / steps,
        'others': sum(counter.others.values()) / steps,
    }
    rows.add(f'waits per step, {name}', not counter.ours, **figures, **lines, most=', '.join(most))


def main() -> None:
    args = parse_part_args(__doc__)
    if args.device == 'cpu':
        args.rows.add('waits per step', None, text='not run: needs a GPU')
        return
    for name, library in LIBRARY_OF.items():
        if args.rows.has(f'waits per step, {name}', library):
            with tempfile.TemporaryDirectory() as folder:
                report(args.rows, name, count_waits(name, folder))


if __name__ == '__main__':
    main()
