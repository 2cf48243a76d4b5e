"""What a comparison ends with: a table, a picture, and what the figures allow to say."""

import json
import statistics
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from mmdiffkd.apis.paired import Paired, holm, paired
from mmdiffkd.errors import shortened
from mmdiffkd.visualization.comparison import comparison_figure

ALONE = 'alone'
_INTERVALS = (
    'Values are those of the last validation, mean ± standard deviation. An interval is that of '
    "Student's t for the difference to alone with the same seed, each for itself."
)
_SMOKE = 'A smoke run of two steps on made-up pictures: the values only show that everything runs.'


class Row(NamedTuple):
    """The trainings of one method.

    Attributes:
        results: Seed -> what :meth:`mmdiffkd.apis.runs.Run.perform` returned.
        error: The last line of the error of a training that failed, or None.
        factor: Factor of the weights.
        tried: Factor -> mean of the metric on the split that was held out.
    """

    results: Dict[int, Dict[str, Any]]
    error: Optional[str] = None
    factor: float = 1.0
    tried: Dict[float, float] = {}


class Comparison(NamedTuple):
    """All figures.

    Attributes:
        title: Student and teacher, in words.
        metric: Name of the metric; None if nothing was validated.
        is_loss: Whether a lower metric is the better one.
        rows: Method -> its trainings.
        teacher: Metrics of the teacher, None if they are not known.
        teacher_note: What the table says about the teacher without metrics.
        smoke: Whether this is a smoke run.
    """

    title: str
    metric: Optional[str]
    is_loss: bool
    rows: Dict[str, Row]
    teacher: Optional[Dict[str, float]] = None
    teacher_note: str = ''
    smoke: bool = False

    @property
    def failed(self) -> bool:
        """Whether anything failed."""
        return self.teacher_note.startswith('failed') or any(r.error for r in self.rows.values())

    def values(self, method: str) -> Dict[int, float]:
        """The metric of a method by the seed."""
        found = self.rows[method].results if method in self.rows else {}
        values = {seed: result['metrics'].get(self.metric) for seed, result in found.items()}
        return {seed: value for seed, value in sorted(values.items()) if value is not None}

    def difference(self, method: str, other: str) -> Optional[Paired]:
        """Statistics of the differences between two methods with the same seed."""
        mine, others = self.values(method), self.values(other)
        differences = [mine[seed] - others[seed] for seed in mine if seed in others]
        return paired(differences) if differences and method != other else None

    def content(self) -> Dict[str, Any]:
        """All figures for a JSON file."""
        rows = {}
        for name, row in self.rows.items():
            values, difference = self.values(name), self.difference(name, ALONE)
            rows[name] = dict(
                seeds=values,
                **_mean_and_std([*values.values()]),
                difference=difference and difference._asdict(),
                factor=row.factor,
                tried=row.tried,
                ms_per_step=_mean(row.results, 'ms_per_step'),
                memory_mb=_mean(row.results, 'memory_mb'),
                error=row.error,
            )
        teacher = dict(note=self.teacher_note, value=(self.teacher or {}).get(self.metric))
        return dict(
            title=self.title,
            metric=self.metric,
            smoke=self.smoke,
            methods=rows,
            teacher=teacher,
            sentences=sentences(self),
        )


def table(comparison: Comparison) -> str:
    """The table, in Markdown whose columns are aligned."""
    content = comparison.content()
    known = [row['mean'] for row in content['methods'].values() if row['mean'] is not None]
    digits = 4 if all(abs(mean) <= 2 for mean in known) else 2
    header = ['method', 'weight', 'seeds', comparison.metric or 'metric', 'over alone']
    header += ['95 % interval', 'ms per step', 'memory, MB']
    teacher = content['teacher']
    shown = teacher['note'] if teacher['value'] is None else f'{teacher["value"]:.{digits}f}'
    lines = [header, [], ['teacher', '', '', shown, *4 * ['']]]
    for name, row in content['methods'].items():
        factor = f'x {row["factor"]:g}' if row['tried'] else ''
        value = '' if row['mean'] is None else f'{row["mean"]:.{digits}f}'
        value += '' if row['std'] is None else f' ± {row["std"]:.{digits}f}'
        error = row['error'] and f'failed: {shortened(row["error"], 60)}'.replace('|', '/')
        line = [name, factor, str(len(comparison.rows[name].results))]
        line += ['; '.join(filter(None, (value, error)))]
        gain = row['difference'] or {}
        line += [f'{gain["mean"]:+.{digits}f}' if gain else '']
        low, high = gain.get('low'), gain.get('high')
        line += ['' if low is None else f'{low:+.{digits}f} to {high:+.{digits}f}']
        line += [f'{row[key]:.0f}' if row[key] else '' for key in ('ms_per_step', 'memory_mb')]
        lines.append(line)
    widths = [max(len(line[i]) for line in lines if line) for i in range(len(header))]
    lines[1] = ['-' * width for width in widths]
    return ''.join(
        f'| {" | ".join(cell.ljust(width) for cell, width in zip(line, widths))} |\n'
        for line in lines
    )


def sentences(comparison: Comparison) -> List[str]:
    """What the figures allow to say, one sentence for each method and one for the best."""
    if comparison.smoke:
        return [_SMOKE]
    gains = {name: comparison.difference(name, ALONE) for name in comparison.rows}
    gains = {name: gain for name, gain in gains.items() if gain is not None}
    chances = {name: gain.p for name, gain in gains.items() if gain.p is not None}
    told = holm(chances)
    found = []
    for name, gain in gains.items():
        number = len(comparison.values(name).keys() & comparison.values(ALONE).keys())
        better = 'better' if (gain.mean > 0) != comparison.is_loss else 'worse'
        text = f'{name}: no difference to the student alone can be told from {_seeds(number)}.'
        if name in told:
            text = f'{name} is {better} than the student alone ({_seeds(number)}).'
        elif gain.p is not None and gain.p <= 0.05:
            text = f'{name} may be {better} than the student alone, but of {len(chances)} methods '
            text += 'one can look so by chance.'
        found.append(text)
    found += _best(comparison)
    if len(chances) > 1:
        found.append(
            f'These sentences take into account that {len(chances)} methods are compared (Holm, '
            f'5 % for all together); the intervals of the table do not.'
        )
    return found


def _best(comparison: Comparison) -> List[str]:
    """A sentence on the method with the best mean and those that cannot be told from it."""
    means = {
        n: statistics.fmean(v.values()) for n in comparison.rows if (v := comparison.values(n))
    }
    if len(means) < 2:
        return []
    best = (min if comparison.is_loss else max)(means, key=means.__getitem__)
    others = {name: comparison.difference(best, name) for name in means if name != best}
    worse = holm({n: d.p for n, d in others.items() if d is not None and d.p is not None})
    equal = [name for name in others if name not in worse]
    end = f'it cannot be told from {", ".join(equal)}' if equal else 'all others are worse'
    return [f'The best mean is that of {best}; {end}.']


def write_report(comparison: Comparison, folder: Path) -> str:
    """Write ``comparison.txt``, ``.md``, ``.json`` and ``.png``; returns the text."""
    content = comparison.content()
    (folder / 'comparison.json').write_text(json.dumps(content, indent=2) + '\n')
    shown = table(comparison)
    errors = [f'{name} failed: {row.error}' for name, row in comparison.rows.items() if row.error]
    notes = [*content['sentences'], *errors]
    text = '\n'.join([comparison.title, '', shown, *notes, _INTERVALS])
    (folder / 'comparison.txt').write_text(text + '\n')
    lines = [f'# {comparison.title}', shown, *(f'- {note}' for note in notes), '', _INTERVALS]
    values = {name: [*comparison.values(name).values()] for name in comparison.rows}
    if any(values.values()):
        teacher = content['teacher']['value']
        figure = comparison_figure(comparison.title, comparison.metric, values, teacher)
        figure.savefig(folder / 'comparison.png')
        lines += ['', '![A dot per seed, a line per mean](comparison.png)']
    (folder / 'comparison.md').write_text('\n'.join(lines) + '\n')
    return text


def _mean_and_std(values: Sequence[float]) -> Dict[str, Optional[float]]:
    return dict(
        mean=statistics.fmean(values) if values else None,
        std=statistics.stdev(values) if len(values) > 1 else None,
    )


def _mean(results: Dict[int, Dict[str, Any]], key: str) -> Optional[float]:
    known = [result[key] for result in results.values() if result.get(key) is not None]
    return statistics.fmean(known) if known else None


def _seeds(number: int) -> str:
    return f'{number} seed{"s" if number > 1 else ""}'
