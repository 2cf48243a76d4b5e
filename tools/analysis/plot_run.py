#!/usr/bin/env python
"""Draw the losses, gamma, distances and validation metrics of one or several runs.

The figures come from the logs in the work directories; the run may still be going on, and the parts
of a resumed run are joined. Curves per level of a pair need
custom_hooks=[dict(type='mmdiffkd.TelemetryHook')] in the config.

Examples:
    %(prog)s work_dirs/my_run
    %(prog)s work_dirs/student work_dirs/diffkd --out compared.png
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdiffkd.errors import ArgumentParser, add_debug_argument, one_line_errors


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'work_dirs', nargs='+', type=Path, metavar='WORK_DIR', help='work directory of a run'
    )
    parser.add_argument(
        '--out', type=Path, help='image to write (default: curves.png in the first WORK_DIR)'
    )
    add_debug_argument(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmdiffkd.visualization import curves_figure, read_run

    out = args.out or args.work_dirs[0] / 'curves.png'
    with one_line_errors(args.debug):
        runs = [read_run(work_dir) for work_dir in args.work_dirs]
        if len({run.name for run in runs}) < len(runs):
            runs = [run._replace(name=str(path)) for run, path in zip(runs, args.work_dirs)]
        figure = curves_figure(runs)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    print(f'Curves of {", ".join(run.name for run in runs)} written to {out}')


if __name__ == '__main__':
    main()
