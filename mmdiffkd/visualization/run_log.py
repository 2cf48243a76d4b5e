"""Reading the log that a training writes into its work directory."""

import json
from pathlib import Path
from typing import Dict, NamedTuple, Tuple, Union

import numpy as np

from mmdiffkd.errors import ConfigError

Series = Tuple[np.ndarray, np.ndarray]
"""Iterations, ascending, (L,), and the value of a quantity after each of them, (L,)."""

_LOG = 'vis_data/scalars.json'
_NO_QUANTITY = ('iter', 'step', 'epoch')


class RunLog(NamedTuple):
    """The log of one run, with the parts of a resumed run joined.

    Attributes:
        name: Name of the work directory.
        training: Losses, diagnostics, learning rates, seconds per step (``time``) and MB of GPU
            memory (``memory``) by their names in the log.
        validation: Metrics by their names.
    """

    name: str
    training: Dict[str, Series]
    validation: Dict[str, Series]


def read_run(work_dir: Union[str, Path]) -> RunLog:
    """Read the log of a run. Where two parts of it overlap, the later one counts.

    Args:
        work_dir: Work directory of the run, or the folder ``<time>`` of one of its parts.

    Raises:
        ConfigError: There is no log, or it has no entry of a training.
    """
    work_dir = Path(work_dir)
    points: Dict[str, Dict[str, Dict[int, float]]] = dict(train={}, val={})
    for path in (*work_dir.glob(_LOG), *sorted(work_dir.glob(f'*/{_LOG}'))):
        _add_part(points, path)
    if not points['train']:
        raise ConfigError(f'{work_dir}: no entry of a training in {_LOG} or <time>/{_LOG}')
    series = [
        {name: (np.array([*at]), np.array([*at.values()])) for name, at in courses.items() if at}
        for courses in points.values()
    ]
    return RunLog(work_dir.resolve().name, *series)


def _add_part(points: Dict[str, Dict[str, Dict[int, float]]], path: Path) -> None:
    # The last line is incomplete while the run writes it, or if the run was killed meanwhile.
    lines = [json.loads(line) for line in path.read_text().split('\n')[:-1]]
    began = next((line['iter'] for line in lines if 'iter' in line), None)
    if began is None:
        return  # the log of a test
    for courses in points.values():
        for name, course in courses.items():
            courses[name] = {at: value for at, value in course.items() if at < began}
    iteration = 0
    for line in lines:
        kind = 'train' if 'iter' in line else 'val'
        # A validation does not tell its iteration, so it is that of the line before it.
        iteration = line.get('iter', iteration)
        for name, value in line.items():
            if name not in _NO_QUANTITY and isinstance(value, (int, float)):
                points[kind].setdefault(name.removeprefix(f'{kind}/'), {})[iteration] = value
