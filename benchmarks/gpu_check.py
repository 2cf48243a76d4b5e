#!/usr/bin/env python
"""Check on this machine's GPU, in at most eight minutes, that everything works, and what it costs.

The parts, which live in benchmarks/gpu, are processes of their own with a time limit each: one that
fails or takes too long does not lose the others. What needs a library that is not installed is
reported as not run. The exit status is 1 if a check failed.

Examples:
    python benchmarks/gpu_check.py --json gpu.json
    python benchmarks/gpu_check.py --parts heads waits
    python benchmarks/gpu_check.py --device cpu --small --minutes 60    # without a GPU
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'benchmarks' / 'gpu'))

from rows import line_of  # noqa: E402


class Part(NamedTuple):
    """A part of the check: its script in ``benchmarks/gpu`` with flags, limit and subject."""

    command: Sequence[str]
    seconds: int
    content: str


# Together eight minutes.
PARTS = {
    'machine': Part(['machine.py'], 15, 'the GPU, and the versions of the libraries'),
    'heads': Part(['heads.py'], 40, 'heads and distances, against float64 on the CPU'),
    'detector': Part(['steps.py', 'detector'], 65, 'what a step costs, at full image size'),
    'segmentor': Part(['steps.py', 'segmentor'], 65, 'what a step costs, at full image size'),
    'classifier': Part(['steps.py', 'classifier'], 40, 'what a step costs, at full image size'),
    'waits': Part(['waits.py'], 60, 'whether a step waits for the GPU'),
    'training': Part(['training.py'], 100, 'mixed precision, resuming, averages, DDP'),
    'memory': Part(['memory.py'], 25, 'memory after a training; a teacher that does not fit'),
    'compile': Part(['steps.py', 'detector', '--compile'], 70, 'the cost with torch.compile'),
}


def run_part(name: str, args: argparse.Namespace, folder: Path) -> Dict[str, Any]:
    """Run a part in a process of its own.

    Returns:
        Its ``rows``, the ``seconds`` that it took, and ``error``, why it did not end by itself.
    """
    part, rows = PARTS[name], folder / f'{name}.jsonl'
    limit = part.seconds * args.minutes / 8
    print(f'{name}: {part.content} (at most {limit:.0f} s)', flush=True)
    script, *flags = part.command
    command = [sys.executable, '-W', 'ignore', str(ROOT / 'benchmarks' / 'gpu' / script), *flags]
    command += ['--device', args.device, '--rows', str(rows), *(['--small'] if args.small else [])]
    start, error, log = time.monotonic(), None, folder / f'{name}.log'
    rows.touch()
    with log.open('w') as output, rows.open() as found:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        results: List[Dict[str, Any]] = []
        running = True
        while running:
            time.sleep(0.2)
            running = process.poll() is None
            if running and time.monotonic() - start > limit:
                os.killpg(process.pid, signal.SIGKILL)
                error = 'stopped at its time limit'
            for line in found:
                results.append(json.loads(line))
                print(line_of(results[-1]), flush=True)
    if process.returncode and error is None:
        error = f'ended with status {process.returncode}'
    if error is not None:
        lines = [line for line in log.read_text().splitlines() if line.strip()][-60:]
        print(f'  FAILED  {error}', *lines[-15:], sep='\n          ', flush=True)
        error = '\n'.join([error, *lines])
    return dict(rows=results, seconds=time.monotonic() - start, error=error)


def summary(results: Dict[str, Dict[str, Any]]) -> str:
    """One line per part: the seconds, and how many checks passed, failed and were not run."""
    lines = []
    for name, part in results.items():
        passed = [row['passed'] for row in part['rows']]
        counts = f'{passed.count(True)} passed, {passed.count(False)} failed'
        failed = [row['name'] for row in part['rows'] if row['passed'] is False]
        text = '; '.join(filter(None, [(part['error'] or '').partition('\n')[0], *failed]))
        lines.append(f'{name:<12}{part["seconds"]:6.0f} s  {counts}  {text}'.rstrip())
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--parts', nargs='+', choices=PARTS, default=list(PARTS), metavar='PART',
        help=', '.join(PARTS),
    )  # fmt: skip
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda')
    parser.add_argument('--small', action='store_true', help='small images and few steps')
    parser.add_argument(
        '--minutes', type=float, default=8, help='limit of all parts together (default: 8)'
    )
    parser.add_argument('--json', type=Path, help='also write the results here')
    args = parser.parse_args()
    if args.device == 'cuda':
        command = 'import sys, torch; sys.exit(not torch.cuda.is_available())'
        if subprocess.run([sys.executable, '-c', command]).returncode != 0:
            parser.error(
                'torch finds no GPU here; --device cpu --small --minutes 60 tries the script'
            )
    return args


def main() -> None:
    args = parse_args()
    results: Dict[str, Dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.parts:
            results[name] = run_part(name, args, Path(folder))
            if args.json is not None:
                args.json.write_text(json.dumps(results, indent=2) + '\n')
    print(summary(results))
    rows = [row['passed'] for part in results.values() for row in part['rows']]
    sys.exit(int(False in rows or any(part['error'] for part in results.values())))


if __name__ == '__main__':
    main()
