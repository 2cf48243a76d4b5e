"""The rows in which a part of the GPU check reports what it found."""

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks' / 'cost')]


class Rows:
    """Prints rows and appends them to a file, so that a part that is killed keeps those it has.

    Args:
        path: File for one JSON object per line; None prints only.
    """

    def __init__(self, path: Optional[Path] = None) -> None:
        self.path = path

    def add(self, name: str, passed: Optional[bool], **figures: Any) -> None:
        """Report one check.

        Args:
            name: What was checked.
            passed: Whether it is as it should be; None for a figure without a limit, and for what
                could not be run.
            figures: Measured numbers, or a text.
        """
        row = dict(name=name, passed=passed, figures=figures)
        print(line_of(row), flush=True)
        if self.path is not None:
            with self.path.open('a') as file:
                file.write(json.dumps(row) + '\n')

    def has(self, name: str, *libraries: str) -> bool:
        """Whether all libraries are installed; reports the check as not run if one is missing."""
        missing = [library for library in libraries if find_spec(library) is None]
        if missing:
            self.add(name, None, text=f'not run: {", ".join(missing)} is not installed')
        return not missing


def line_of(row: Dict[str, Any]) -> str:
    """A row as one line for people."""
    marks = {True: 'ok', False: 'FAILED', None: '-'}
    figures = (f'{key} {_shown(value)}' for key, value in row['figures'].items())
    return f'  {marks[row["passed"]]:<8}{row["name"]:<38}{"  ".join(figures)}'


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return '/'.join(map(_shown, value))
    if isinstance(value, float):
        return f'{value:.0f}' if abs(value) >= 100 else f'{value:.2g}'
    return str(value)


def parse_part_args(description: Optional[str], variants: Sequence[str] = ()) -> argparse.Namespace:
    """The command line of a part, and of one of its ``variants`` if it has any."""
    parser = argparse.ArgumentParser(description=description)
    if variants:
        parser.add_argument('variant', choices=variants)
    parser.add_argument('--device', default='cuda', help='cuda or cpu')
    parser.add_argument('--small', action='store_true', help='small images, to try the script')
    parser.add_argument('--compile', action='store_true', help='measure what torch.compile makes')
    parser.add_argument('--rows', type=Path, help='file for the results, one JSON object per line')
    args = parser.parse_args()
    args.rows = Rows(args.rows)
    return args
