"""Reading what a training wrote into its work directory."""

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple, Union

import numpy as np

from mmdiffkd.errors import UserError, shortened

_LOG = 'vis_data/scalars.json'
_NO_QUANTITY = {'iter', 'step', 'epoch', 'memory'}


class Series(NamedTuple):
    """A quantity over the course of a training.

    Attributes:
        iterations: How many had been done, ascending, (L,).
        values: (L,).
    """

    iterations: np.ndarray
    values: np.ndarray


class RunLog(NamedTuple):
    """What one run logged, resumed parts joined.

    Attributes:
        name: Of the work directory.
        training: Losses, diagnostics, learning rates, ... by their names in the log.
        validation: Metrics by their names.
    """

    name: str
    training: Dict[str, Series]
    validation: Dict[str, Series]


class LogError(UserError, ValueError):
    """A folder without a log that can be read; the message says which and why."""


def read_run(work_dir: Union[str, Path]) -> RunLog:
    """Read the ``scalars.json`` of all parts of a run, from the first start to the last resumption.

    Where a part goes on from an earlier iteration than the one before it had come to, the later
    part counts.

    Args:
        work_dir: Of the run; or the folder of one part in it, named by the time.

    Raises:
        LogError: If there is no such folder, no log in it, or nothing of a training in the log.
    """
    work_dir = Path(work_dir)
    if not work_dir.is_dir():
        raise LogError(f'{work_dir}: no such folder')
    # Folders are named by the time when a part began, so their order is that of time.
    files = [work_dir / _LOG] if (work_dir / _LOG).is_file() else sorted(work_dir.glob(f'*/{_LOG}'))
    if not files:
        raise LogError(
            f'{work_dir}: no log in it; a work directory has <time>/{_LOG}, which the visualizer '
            f'writes if its vis_backends have a LocalVisBackend'
        )
    entries: List[Tuple[int, bool, Dict[str, float]]] = []
    for path in files:
        part = list(_entries(path))
        began = min((iteration for iteration, training, _ in part if training), default=None)
        if began is None:
            continue  # a test or a validation alone
        entries = [entry for entry in entries if entry[0] < began] + part
    if not entries:
        raise LogError(f'{work_dir}: its log has no entry of a training yet')
    return RunLog(
        work_dir.resolve().name,
        training=_series(entries, training=True),
        validation=_series(entries, training=False),
    )


def _entries(path: Path) -> Iterator[Tuple[int, bool, Dict[str, float]]]:
    """Iteration, whether of training, and the numbers, of each line of a log."""
    iteration = 0
    # The last line is not finished while the run writes it, or if the run was killed meanwhile.
    for number, line in enumerate(path.read_text().split('\n')[:-1], 1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise LogError(f'{path}, line {number}: not JSON ({error})') from error
        if not isinstance(entry, dict) or not _is_number(entry.get('iter', 0)):
            raise LogError(f'{path}, line {number}: not of a log, {shortened(line)}')
        training = 'iter' in entry
        # Validations count epochs, if anything: they belong to the iteration before them.
        iteration = int(entry['iter']) if training else iteration
        yield (
            iteration,
            training,
            {
                name.removeprefix('train/' if training else 'val/'): float(value)
                for name, value in entry.items()
                if name not in _NO_QUANTITY and _is_number(value)
            },
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _series(entries: List, training: bool) -> Dict[str, Series]:
    points: Dict[str, Dict[int, float]] = {}
    for iteration, of_training, numbers in entries:
        if of_training == training:
            for name, value in numbers.items():
                points.setdefault(name, {})[iteration] = value
    return {
        name: Series(np.array(list(course)), np.array(list(course.values())))
        for name, course in points.items()
    }
