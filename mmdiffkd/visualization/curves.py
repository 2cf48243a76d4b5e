"""Curves of one or several runs."""

import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from mmdiffkd.visualization.canvas import COLOURS, GREY, new_figure, ordered_colours, tidy
from mmdiffkd.visualization.run_log import RunLog, Series

_COLUMNS = 5
_PANEL = (2.7, 2.1)  # inches
_HEADING = 0.45

_LEVEL = re.compile(r'(?P<kind>gamma|dist_before|dist_after)_(?P<pair>\w+)/level_(?P<level>\d+)')
_MEAN = re.compile(r'(?P<kind>gamma|dist_before|dist_after)_(?P<pair>\w+)')
_NO_METRIC = ('time', 'data_time')
_TEACHER = 'teacher/'


class _Line(NamedTuple):
    series: Series
    colour: object
    label: str
    dashed: bool = False


class _Panel(NamedTuple):
    title: str
    note: str
    lines: List[_Line]
    limits: Optional[Tuple[float, float]] = None
    may_be_logarithmic: bool = False
    reference: Optional[float] = None


def curves_figure(runs: Sequence[RunLog]) -> Figure:
    """All losses, gamma and distances per pair and level, and the metrics of validation.

    Of one run the levels of a pair are drawn together; of several there is a panel per level, so
    that the runs can be compared.

    Args:
        runs: At most seven, the number of colours that can be told apart.

    Raises:
        ValueError: If there are more.
    """
    if len(runs) > len(COLOURS):
        raise ValueError(f'at most {len(COLOURS)} runs can be compared, got {len(runs)}')
    sections = {
        'Losses, and what each of them trains': _loss_panels(runs),
        'Denoising': _denoising_panels(runs),
        'Validation': _metric_panels(runs),
    }
    return _draw(runs, {title: panels for title, panels in sections.items() if panels})


def _names(runs: Iterable[RunLog], part: str) -> List[str]:
    """Names of all quantities in the order in which they occur first."""
    return list(dict.fromkeys(name for run in runs for name in getattr(run, part)))


def _per_run(runs: Sequence[RunLog], part: str, name: str, **kwargs) -> List[_Line]:
    return [
        _Line(getattr(run, part)[name], colour, run.name, **kwargs)
        for run, colour in zip(runs, COLOURS)
        if name in getattr(run, part)
    ]


def _loss_panels(runs: Sequence[RunLog]) -> List[_Panel]:
    names = [name for name in _names(runs, 'training') if 'loss' in name]
    names.sort(key=lambda name: name != 'loss')  # the sum first, the others as logged
    return [
        _Panel(
            name,
            _trained_by(name, runs),
            _per_run(runs, 'training', name),
            may_be_logarithmic=True,
        )
        for name in names
    ]


def _trained_by(loss: str, runs: Sequence[RunLog]) -> str:
    """Which parameters a loss teaches, by its name."""
    if loss == 'loss':
        return 'the sum'
    if loss.startswith('loss_diff_'):
        return 'noise predictor'
    if loss.startswith('loss_ae_'):
        return 'autoencoder'
    if loss.startswith('loss_kd_'):
        pair = loss.removeprefix('loss_kd_')
        logged = {name for run in runs for name in run.training}
        head = 'student and the head' if f'gamma_{pair}' in logged else 'student'
        return head + (', not its autoencoder' if f'loss_ae_{pair}' in logged else '')
    return 'student'


def _denoising_panels(runs: Sequence[RunLog]) -> List[_Panel]:
    names = _names(runs, 'training')
    levels: Dict[str, List[str]] = {}
    for name in names:
        match = _LEVEL.fullmatch(name)
        if match:
            levels.setdefault(match['pair'], []).append(f'/level_{match["level"]}')
    pairs = dict.fromkeys(match['pair'] for match in map(_MEAN.fullmatch, names) if match)
    panels = []
    for pair in pairs:
        # Runs without TelemetryHook have the mean over the maps alone.
        suffixes = list(dict.fromkeys(levels.get(pair, [''])))
        groups = [suffixes] if len(runs) == 1 else [[suffix] for suffix in suffixes]
        panels += [_gamma_panel(runs, pair, group) for group in groups]
        panels += [_distance_panel(runs, pair, group) for group in groups]
    return [panel for panel in panels if panel.lines]


def _gamma_panel(runs: Sequence[RunLog], pair: str, suffixes: Sequence[str]) -> _Panel:
    lines = _per_run_or_level(runs, f'gamma_{pair}', suffixes)
    note = 'share of the student feature kept'
    return _Panel(f'gamma {_place(pair, suffixes)}', note, lines, limits=(0, 1.03))


def _distance_panel(runs: Sequence[RunLog], pair: str, suffixes: Sequence[str]) -> _Panel:
    lines = _per_run_or_level(runs, f'dist_after_{pair}', suffixes)
    note = 'mean square'
    if any(f'gamma_{pair}' in run.training for run in runs):
        note = 'dashed before, solid after denoising'
        lines += _per_run_or_level(runs, f'dist_before_{pair}', suffixes, dashed=True)
    title = f'distance {_place(pair, suffixes)}'
    return _Panel(title, note, lines, may_be_logarithmic=True)


def _place(pair: str, suffixes: Sequence[str]) -> str:
    return pair if suffixes == [''] or len(suffixes) > 1 else f'{pair}, {_readable(suffixes[0])}'


def _per_run_or_level(
    runs: Sequence[RunLog], name: str, suffixes: Sequence[str], **kwargs
) -> List[_Line]:
    if len(suffixes) == 1:
        return _per_run(runs, 'training', name + suffixes[0], **kwargs)
    return [
        _Line(runs[0].training[name + suffix], colour, _readable(suffix), **kwargs)
        for suffix, colour in zip(suffixes, ordered_colours(len(suffixes)))
        if name + suffix in runs[0].training
    ]


def _readable(suffix: str) -> str:
    return suffix.strip('/').replace('_', ' ')


def _metric_panels(runs: Sequence[RunLog]) -> List[_Panel]:
    panels = []
    for name in _names(runs, 'validation'):
        if name in _NO_METRIC or name.startswith(_TEACHER):
            continue
        lines = _per_run(runs, 'validation', name)
        # COCO's way to say that there were no such objects.
        if all((line.series.values == -1).all() for line in lines):
            continue
        teachers = [run.validation.get(_TEACHER + name) for run in runs]
        teacher = next((series.values[-1] for series in teachers if series is not None), None)
        note = 'last ' + ', '.join(f'{line.series.values[-1]:.4g}' for line in lines)
        panels.append(_Panel(name, note, lines, reference=teacher))
    return panels


def _draw(runs: Sequence[RunLog], sections: Dict[str, List[_Panel]]) -> Figure:
    rows = {title: -(-len(panels) // _COLUMNS) for title, panels in sections.items()}
    heights = [_HEADING + _PANEL[1] * number for number in rows.values()]
    figure = new_figure(_COLUMNS * _PANEL[0], sum(heights) + 2 * _HEADING, layout='constrained')
    title = f'Run {runs[0].name}' if len(runs) == 1 else f'{len(runs)} runs'
    figure.suptitle(title, fontsize=14, weight='bold', x=0.01, ha='left')
    if len(runs) > 1:
        handles = [Line2D([], [], color=c, label=run.name) for c, run in zip(COLOURS, runs)]
        figure.legend(handles=handles, loc='outside upper center', ncols=4, frameon=False)
    parts = figure.subfigures(len(sections), 1, squeeze=False, height_ratios=heights)[:, 0]
    end = max(_end(panel) for panels in sections.values() for panel in panels)
    for part, (title, panels) in zip(parts, sections.items()):
        part.suptitle(title, fontsize=12, x=0.01, ha='left')
        grid = part.subplots(rows[title], _COLUMNS, squeeze=False).ravel()
        for axes, panel in zip(grid, panels):
            _draw_panel(axes, panel, legend=len(runs) == 1)
            axes.set_xlim(0, 1.02 * end)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
    return figure


def _end(panel: _Panel) -> int:
    return max(line.series.iterations[-1] for line in panel.lines)


def _draw_panel(axes: Axes, panel: _Panel, legend: bool) -> None:
    for line in panel.lines:
        iterations, values = line.series
        axes.plot(
            iterations,
            values,
            '--' if line.dashed else '-',
            color=line.colour,
            linewidth=1.2,
            # A point alone would not be seen, a few validations should be.
            marker='o' if len(values) < 15 else None,
            markersize=3,
            label=None if line.dashed else line.label,
        )
    if panel.reference is not None:
        axes.axhline(panel.reference, color=GREY, linestyle=':', label='teacher')
    tidy(axes)
    axes.set_title(panel.title, fontsize=10, loc='left', pad=14 if panel.note else 4)
    axes.text(0, 1.02, panel.note, fontsize=8, color=GREY, transform=axes.transAxes)
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)
    elif panel.may_be_logarithmic and _spans_decades(panel.lines):
        axes.set_yscale('log')
        axes.yaxis.set_minor_formatter(NullFormatter())
    labels = {line.label for line in panel.lines}
    if (legend and len(labels) > 1) or panel.reference is not None:
        axes.legend(fontsize=8, frameon=False)
    axes.set_xlabel('iteration', fontsize=8)


def _spans_decades(lines: Sequence[_Line]) -> bool:
    values = np.concatenate([line.series.values for line in lines])
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() > 30 * values.min())
