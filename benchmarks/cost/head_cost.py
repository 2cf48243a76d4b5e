#!/usr/bin/env python
"""Measure the cost of the diffusion heads alone, over widths and map sizes, with torch alone.

The forward and backward of the heads run on random features, in turns: the naive head
(naive_head.py, if diffusers is installed), DiffKDHead, DiffKDHead with checkpoint=True, and with
--compile also with compile=True. Times are medians of interleaved runs; bytes and operations are
exact.

Examples:
    python benchmarks/cost/head_cost.py --widths 64 256 --maps 80 40 20
    python benchmarks/cost/head_cost.py --image 800 1333 --device cuda --amp --check-sync
"""

import argparse
import json
import statistics
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from measuring import (
    KeptForBackward,
    Stopwatch,
    count_flops,
    device_name,
    synchronisation_is_an_error,
)
from torch import Tensor, nn

from mmdiffkd.diffusion import DiffKDHead
from mmdiffkd.errors import ArgumentParser, add_debug_argument, one_line_errors

# Height and width of each map that has a head.
Maps = Sequence[Tuple[int, int]]

FPN_STRIDES = (8, 16, 32, 64, 128)


def pyramid(height: int, width: int) -> List[Tuple[int, int]]:
    """The five maps of an FPN (P3 to P7) for an image of this size in pixels."""
    # Images are padded to multiples of 32; the two upper maps are halved, rounding up.
    height, width = -(-height // 32) * 32, -(-width // 32) * 32
    return [(-(-height // stride), -(-width // stride)) for stride in FPN_STRIDES]


def head_builders(with_compile: bool = False) -> Dict[str, Callable[..., nn.Module]]:
    """The function that builds each kind of head from the student's and teacher's widths."""
    builders: Dict[str, Callable[..., nn.Module]] = {}
    if find_spec('diffusers') is not None:
        from naive_head import NaiveDiffKDHead

        builders['naive'] = NaiveDiffKDHead
    builders['default'] = DiffKDHead
    builders['checkpoint'] = partial(DiffKDHead, checkpoint=True)
    if with_compile:
        builders['compile'] = partial(DiffKDHead, compile=True)
    return builders


class Heads:
    """One head per map, with random features of student and teacher.

    Args:
        build: Function from student and teacher channels to a head.
        channels: Number of channels of student and teacher.
        maps: Height and width of each map.
        batch_size: Number of images.
        device: ``'cpu'`` or ``'cuda'``.
        amp: Whether the forward runs in bfloat16 autocast.
        arguments: Further arguments of the head, such as ``num_steps``.
    """

    def __init__(
        self,
        build: Callable[..., nn.Module],
        channels: int,
        maps: Maps,
        batch_size: int = 2,
        device: str = 'cpu',
        amp: bool = False,
        **arguments: Any,
    ) -> None:
        torch.manual_seed(0)
        self.device = torch.device(device)
        self.amp = amp
        self.heads = nn.ModuleList(build(channels, channels, **arguments) for _ in maps).to(device)
        shapes = [(batch_size, channels, *size) for size in maps]
        self.student = [torch.randn(shape, device=device, requires_grad=True) for shape in shapes]
        self.teacher = [torch.randn(shape, device=device) for shape in shapes]
        self.rounds: List[Dict[str, float]] = []
        self.peak_bytes: Optional[int] = None

    def loss(self) -> Tensor:
        """Sum of the heads' losses and of the distances between refined and target."""
        total = torch.zeros((), device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            for head, student, teacher in zip(self.heads, self.student, self.teacher):
                output = head(student, teacher)
                distance = nn.functional.mse_loss(output.refined, output.target)
                total = total + distance + output.losses['diff']
        return total

    def step(self) -> None:
        """Forward and backward once, and note the milliseconds of each."""
        for leaf in (*self.student, *self.heads.parameters()):
            leaf.grad = None
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
        stopwatch = Stopwatch(self.device)
        with stopwatch.part('forward'):
            loss = self.loss()
        with stopwatch.part('backward'):
            loss.backward()
        self.rounds.append(stopwatch.milliseconds())
        if self.device.type == 'cuda':
            self.peak_bytes = torch.cuda.max_memory_allocated(self.device) - before

    def results(self) -> Dict[str, float]:
        """Medians of the times, and the exact figures."""
        with KeptForBackward(self.heads.parameters()) as kept:
            self.loss()
        results = {
            'ms forward': statistics.median(times['forward'] for times in self.rounds),
            'ms backward': statistics.median(times['backward'] for times in self.rounds),
            'ms': statistics.median(sum(times.values()) for times in self.rounds),
            'bytes kept for backward': kept.num_bytes,
            'FLOPs': count_flops(lambda: self.loss().backward()),
        }
        if self.peak_bytes is not None:
            results['peak GPU bytes'] = self.peak_bytes
        return results


def measure(
    builders: Dict[str, Callable[..., nn.Module]],
    *setting: Any,
    steps: int = 10,
    warmup: int = 2,
    **arguments: Any,
) -> Dict[str, Dict[str, float]]:
    """Measure heads of one width, interleaved.

    Args:
        builders: Result of :func:`head_builders`.
        setting: Arguments of :class:`Heads` from ``channels`` to ``amp``.
        steps: Number of measured runs.
        warmup: Number of runs before them.
        arguments: Further arguments of the heads.

    Returns:
        Per builder its figures, among them the ratios to the default head and to the naive one.
    """
    contenders = {name: Heads(build, *setting, **arguments) for name, build in builders.items()}
    order = list(contenders.values())
    for index in range(warmup + steps):
        # There and back, so that none always follows the same one.
        for contender in order if index % 2 else reversed(order):
            contender.step()
    for contender in contenders.values():
        contender.rounds = contender.rounds[warmup:]
    results = {name: contender.results() for name, contender in contenders.items()}
    for name, contender in contenders.items():
        for other in ('default', 'naive'):
            if other in contenders:
                # Ratios of each round, so that a drift of the machine's speed cancels.
                results[name][f'time / {other}'] = statistics.median(
                    sum(a.values()) / sum(b.values())
                    for a, b in zip(contender.rounds, contenders[other].rounds)
                )
    return results


def check_synchronisation(
    builders: Dict[str, Callable[..., nn.Module]],
    *setting: Any,
    **arguments: Any,
) -> Dict[str, bool]:
    """Whether a step of each head runs without the host waiting for the GPU."""
    free = {}
    for name, build in builders.items():
        heads = Heads(build, *setting, **arguments)
        heads.loss().backward()  # the first step waits: cuDNN chooses its algorithms
        try:
            with synchronisation_is_an_error():
                heads.loss().backward()
            free[name] = True
        except RuntimeError as error:
            if 'synchroniz' not in str(error):
                raise
            free[name] = False
    return free


def report(results: Dict[str, Dict[str, float]]) -> str:
    """One line per kind of head."""
    lines = []
    for name, figures in results.items():
        text = (
            f'  {name:<11}{figures["ms forward"]:9.2f} +{figures["ms backward"]:9.2f} ms  '
            f'kept {figures["bytes kept for backward"] / 2**20:8.1f} MiB  '
            f'{figures["FLOPs"] / 1e9:8.1f} GFLOP'
        )
        if 'peak GPU bytes' in figures:
            text += f'  peak {figures["peak GPU bytes"] / 2**20:.0f} MiB'
        for other in ('naive', 'default'):
            if other != name and f'time / {other}' in figures:
                text += f'  {figures[f"time / {other}"]:.2f} of {other}'
        lines.append(text)
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--widths', type=int, nargs='+', default=[256], help='channels')
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        '--maps', type=int, nargs='+', default=[80, 40, 20, 10, 5], metavar='SIDE',
        help='sides of square maps, each measured by itself',
    )  # fmt: skip
    sizes.add_argument(
        '--image', type=int, nargs=2, metavar=('H', 'W'),
        help='instead: the five maps of an FPN for this image size, together',
    )  # fmt: skip
    parser.add_argument('--batch', type=int, default=2, help='images')
    parser.add_argument('--num-steps', type=int, default=5, help='denoising steps')
    parser.add_argument('--repeats', type=int, default=10, help='counted runs of each')
    parser.add_argument('--warmup', type=int, default=2, help='runs not counted')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cpu or cuda'
    )
    parser.add_argument('--amp', action='store_true', help='bfloat16 autocast')
    parser.add_argument('--compile', action='store_true', help='also measure compile=True')
    parser.add_argument(
        '--check-sync', action='store_true', help='check that a step never waits for the GPU'
    )
    add_debug_argument(parser)
    parser.add_argument('--json', type=Path, help='also write the results here')
    args = parser.parse_args()
    if args.check_sync and args.device == 'cpu':
        parser.error('--check-sync needs --device cuda')
    return args


def run(args: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    builders = head_builders(args.compile)
    print(
        f'{device_name(torch.device(args.device))}, torch {torch.__version__}, '
        f'{"bfloat16 autocast" if args.amp else "float32"}, batch {args.batch}, '
        f'{args.num_steps} denoising steps, medians of {args.repeats} interleaved runs'
    )
    if 'naive' not in builders:
        print('naive head: not measured, diffusers is not installed')
    groups = [pyramid(*args.image)] if args.image else [[(side, side)] for side in args.maps]
    collected = []
    for width in args.widths:
        for maps in groups:
            title = f'{width} channels, maps {", ".join(f"{h}x{w}" for h, w in maps)}'
            print(title, flush=True)
            setting = (width, maps, args.batch, args.device, args.amp)
            counts = dict(steps=args.repeats, warmup=args.warmup)
            results = measure(builders, *setting, **counts, num_steps=args.num_steps)
            print(report(results), flush=True)
            collected.append(dict(width=width, maps=maps, results=results))
            if args.check_sync:
                checked = check_synchronisation(builders, *setting, num_steps=args.num_steps)
                for name, free in checked.items():
                    print(f'  {name:<11}{"never waits" if free else "WAITS"} for the GPU')
    if args.json is not None:
        conditions = dict(
            device=device_name(torch.device(args.device)), torch=torch.__version__, amp=args.amp,
            batch=args.batch, num_steps=args.num_steps, repeats=args.repeats,
        )  # fmt: skip
        args.json.write_text(
            json.dumps(dict(setting=conditions, measured=collected), indent=2) + '\n'
        )


def main() -> None:
    args = parse_args()
    with one_line_errors(args.debug):
        run(args)


if __name__ == '__main__':
    main()
