#!/usr/bin/env python
"""How the cost of the diffusion heads grows: measure along five axes and draw the lines.

From one setting (an FPN of 256 channels, two images, five denoising steps) one thing is varied at a
time. This is a benchmark: it measures and asserts nothing.

Example:
    python benchmarks/cost/scaling.py docs/images/scaling.png --json scaling.json
"""

import argparse
import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import matplotlib
import torch

matplotlib.use('Agg')
from head_cost import head_builders, measure, pyramid
from matplotlib import pyplot as plt
from matplotlib.ticker import ScalarFormatter
from measuring import device_name

from mmdiffkd.errors import ArgumentParser, add_debug_argument, one_line_errors

# The colour-blind safe palette of Okabe and Ito.
COLOURS = dict(naive='#999999', default='#0072b2', checkpoint='#d55e00')


class Setting(NamedTuple):
    """What the heads run on.

    Attributes:
        image: Side of the square images in pixels.
        batch: Number of images.
        channels: Width of student and teacher.
        levels: Maps of the pyramid, from the largest.
        num_steps: Denoising steps K.
    """

    image: int = 320
    batch: int = 2
    channels: int = 256
    levels: int = 5
    num_steps: int = 5


AXES: Dict[str, Tuple[str, List[int]]] = {
    'batch': ('images', [1, 2, 4]),
    'image': ('side of the images, pixels', [160, 320, 480]),
    'channels': ('channels', [64, 128, 256]),
    'levels': ('levels of the pyramid', [1, 2, 3, 4, 5]),
    'num_steps': ('denoising steps K', [1, 2, 5, 10]),
}


def measure_axis(axis: str, values: List[int], repeats: int, device: str) -> List[Dict[str, Any]]:
    """Measure the default setting with another value of one of its fields each."""
    points = []
    for value in values:
        setting = Setting()._replace(**{axis: value})
        maps = pyramid(setting.image, setting.image)[: setting.levels]
        results = measure(
            head_builders(), setting.channels, maps, setting.batch, device, steps=repeats,
            num_steps=setting.num_steps,
        )  # fmt: skip
        points.append(dict(value=value, results=results))
        times = ', '.join(f'{name} {figures["ms"]:.0f} ms' for name, figures in results.items())
        print(f'{axis} {value}: {times}', flush=True)
    return points


def draw(measured: Dict[str, List[Dict[str, Any]]], title: str, path: Path) -> None:
    """Times in the upper row, bytes kept for backward in the lower; one column per axis."""
    figure, rows = plt.subplots(2, len(measured), figsize=(1.8 * len(measured), 5), sharey='row')
    rows[0, 0].set_ylabel('forward and backward, ms')
    rows[1, 0].set_ylabel('kept for backward, MiB')
    for column, (axis, points) in enumerate(measured.items()):
        values = [point['value'] for point in points]
        for row, (key, unit) in zip(rows, (('ms', 1), ('bytes kept for backward', 2**20))):
            panel = row[column]
            for name in points[0]['results']:
                heights = [point['results'][name][key] / unit for point in points]
                panel.plot(values, heights, 'o-', color=COLOURS[name], label=name, markersize=4)
            panel.set_xscale('log', base=2)
            panel.set_yscale('log', base=2)
            panel.set_xticks(values, [str(value) for value in values])
            panel.minorticks_off()
            panel.yaxis.set_major_formatter(ScalarFormatter())
            panel.grid(alpha=0.3)
            for side in ('top', 'right'):
                panel.spines[side].set_visible(False)
        rows[1, column].set_xlabel(AXES[axis][0])
    rows[0, 0].legend(frameon=False)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, help='PNG to write')
    parser.add_argument('--repeats', type=int, default=7, help='counted runs of each')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cpu or cuda'
    )
    add_debug_argument(parser)
    parser.add_argument('--json', type=Path, help='also write the figures here')
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    measured = {
        axis: measure_axis(axis, values, args.repeats, args.device)
        for axis, (_, values) in AXES.items()
    }
    setting = Setting()
    title = (
        f'Diffusion heads, {device_name(torch.device(args.device))}, float32. Where not varied: '
        f'{setting.batch} images of {setting.image}x{setting.image}, {setting.levels} levels, '
        f'{setting.channels} channels, K = {setting.num_steps}'
    )
    draw(measured, title, args.out)
    if args.json is not None:
        args.json.write_text(json.dumps(dict(title=title, measured=measured), indent=2) + '\n')


def main() -> None:
    args = parse_args()
    with one_line_errors(args.debug):
        run(args)


if __name__ == '__main__':
    main()
