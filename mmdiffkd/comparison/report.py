"""What a comparison ends with: a table, a picture, and what the figures allow to say."""

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Union

from mmdiffkd.comparison.statistics import Difference, difference, holm
from mmdiffkd.visualization.comparison import comparison_figure

ALONE = 'alone'
_INTERVALS = (
    'Values are those of the last validation, mean ± standard deviation. An interval is that of '
    "Student's t for the difference to alone with the same seed, each for itself."
)
_SMOKE = 'A smoke run of two steps on made-up pictures: the values only show that everything runs.'


@dataclass
class Row:
    """The trainings of one method.

    Attributes:
        results: Seed -> what :meth:`mmdiffkd.comparison.run.Run.perform` returned.
        error: The last line of the error of a training that failed, or None.
        factor: Factor of the weights.
        tried: Factor -> mean of the metric on the split that was held out.
    """

    results: Dict[int, Dict[str, Any]] = field(default_factory=dict)
    error: Optional[str] = None
    factor: float = 1.0
    tried: Dict[float, float] = field(default_factory=dict)


@dataclass
class Comparison:
    """All figures.

    Attributes:
        title: Student and teacher, in words.
        rows: Method -> its trainings.
        metric: Name of the metric; None if nothing was validated.
        is_loss: Whether a lower metric is the better one.
        teacher: The metric of the teacher, or what the table says instead.
        smoke: Whether this is a smoke run.
    """

    title: str
    rows: Dict[str, Row]
    metric: Optional[str] = None
    is_loss: bool = False
    teacher: Union[float, str, None] = 'random weights'
    smoke: bool = False

    @property
    def failed(self) -> bool:
        """Whether anything failed."""
        errors = [row.error for row in self.rows.values()]
        return any(errors) or str(self.teacher).startswith('failed')

    def values(self, method: str) -> Dict[int, float]:
        """The metric of a method by the seed."""
        found = self.rows[method].results if method in self.rows else {}
        values = {seed: result['metrics'].get(self.metric) for seed, result in found.items()}
        return {seed: value for seed, value in sorted(values.items()) if value is not None}

    def difference(self, method: str, other: str = ALONE) -> Optional[Difference]:
        """The difference between two methods, or None if they have no seed in common."""
        return difference(self.values(method), self.values(other)) if method != other else None

    def figures(self) -> Dict[str, Dict[str, Any]]:
        """The figures of each method, as in ``comparison.json``."""
        figures = {}
        for name, row in self.rows.items():
            values, gain = self.values(name), self.difference(name)
            figure = dict(factor=row.factor, tried=row.tried, seeds=values, error=row.error)
            figure.update(mean=_mean(values.values()), over_alone=gain and gain._asdict())
            figure['std'] = statistics.stdev(values.values()) if len(values) > 1 else None
            for key in ('ms_per_step', 'memory_mb'):
                figure[key] = _mean(result.get(key) for result in row.results.values())
            figures[name] = figure
        return figures


def _mean(values: Iterable[Optional[float]]) -> Optional[float]:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def table(comparison: Comparison) -> str:
    """The table, in Markdown whose columns are aligned."""
    figures = comparison.figures()
    large = any(abs(row['mean'] or 0) > 2 for row in figures.values())
    form = '.2f' if large else '.4f'
    header = ['method', 'weight', 'seeds', comparison.metric or 'metric', 'over alone']
    header += ['95 % interval', 'ms per step', 'memory, MB']
    lines = [header, [], ['teacher', '', '', _joined(form, comparison.teacher), *4 * ['']]]
    for name, row in figures.items():
        gain = row['over_alone'] or {}
        value = _joined(form, row['mean'], ' ± ', row['std'])
        line = [name, f'x {row["factor"]:g}' if row['tried'] or row['factor'] != 1 else '']
        line.append(str(len(comparison.rows[name].results)))
        # The errors stand under the table.
        line.append('; '.join(filter(None, (value, row['error'] and 'failed'))))
        line.append(_joined(f'+{form}', gain.get('mean')))
        line.append(_joined(f'+{form}', gain.get('low'), ' to ', gain.get('high')))
        line += [_joined('.0f', row[key]) for key in ('ms_per_step', 'memory_mb')]
        lines.append(line)
    widths = [max(len(line[i]) for line in lines if line) for i in range(len(header))]
    lines[1] = ['-' * width for width in widths]
    return ''.join(
        f'| {" | ".join(cell.ljust(width) for cell, width in zip(line, widths))} |\n'
        for line in lines
    )


def _joined(form: str, first: Any, between: str = '', second: Optional[float] = None) -> str:
    """One or two numbers in words, as far as they are known; a text stays as it is."""
    if first is None or isinstance(first, str):
        return first or ''
    return f'{first:{form}}' + ('' if second is None else f'{between}{second:{form}}')


def sentences(comparison: Comparison) -> List[str]:
    """What the figures allow to say, one sentence for each method and one for the best."""
    if comparison.smoke:
        return [_SMOKE]
    gains = {name: comparison.difference(name) for name in comparison.rows}
    gains = {name: gain for name, gain in gains.items() if gain is not None}
    told = holm({name: gain.p for name, gain in gains.items()})
    found = []
    for name, gain in gains.items():
        seeds = f'{gain.seeds} seed{"s" if gain.seeds > 1 else ""}'
        better = 'better' if (gain.mean > 0) != comparison.is_loss else 'worse'
        unclear = f'{name}: no difference to the student alone can be told from {seeds}.'
        clear = f'{name} is {better} than the student alone ({seeds}).'
        found.append(clear if name in told else unclear)
    found += _best(comparison)
    if len(gains) > 1:
        found.append(
            f'These sentences take into account that {len(gains)} methods are compared (Holm, 5 % '
            f'for the differences to the student alone together, and 5 % for those to the best '
            f'mean); the intervals of the table do not.'
        )
    return found


def _best(comparison: Comparison) -> List[str]:
    """A sentence on the method with the best mean and those that cannot be told from it."""
    means = {name: row['mean'] for name, row in comparison.figures().items() if row['seeds']}
    if not means:
        return []
    best = (min if comparison.is_loss else max)(means, key=means.__getitem__)
    # The differences to the student alone have their sentences already.
    others = [name for name in means if name not in (best, ALONE)]
    if not others:
        return []
    differences = {name: comparison.difference(best, name) for name in others}
    worse = holm({name: it.p if it else 1.0 for name, it in differences.items()})
    equal = [name for name in others if name not in worse]
    end = f'it cannot be told from {", ".join(equal)}' if equal else 'all other methods are worse'
    return [f'The best mean is that of {best}; {end}.']


def write_report(comparison: Comparison, folder: Path) -> str:
    """Write ``comparison.txt``, ``.md``, ``.json`` and ``.png``; returns the text."""
    said, rows = sentences(comparison), comparison.rows.items()
    folder.mkdir(parents=True, exist_ok=True)
    content = dict(vars(comparison), rows=comparison.figures(), sentences=said)
    (folder / 'comparison.json').write_text(json.dumps(content, indent=2) + '\n')
    notes = said + [f'{name} failed: {row.error}' for name, row in rows if row.error]
    notes = ''.join(f'- {note}\n' for note in notes)
    text = f'# {comparison.title}\n\n{table(comparison)}\n{notes}\n{_INTERVALS}\n'
    (folder / 'comparison.txt').write_text(text)
    values = {name: [*comparison.values(name).values()] for name, _ in rows}
    picture = ''
    if any(values.values()):
        teacher = None if isinstance(comparison.teacher, str) else comparison.teacher
        figure = comparison_figure(comparison.title, comparison.metric, values, teacher)
        figure.savefig(folder / 'comparison.png')
        picture = '\n![A dot per seed, a line per mean](comparison.png)\n'
    (folder / 'comparison.md').write_text(text + picture)
    return text
