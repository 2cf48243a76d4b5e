"""Training curves of one or several runs."""

import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter

from mmdiffkd.errors import ConfigError
from mmdiffkd.visualization.canvas import COLOURS, GREY, new_figure, ordered_colours, tidy
from mmdiffkd.visualization.run_log import RunLog, Series

_COLUMNS = 3
_WIDTH, _HEIGHT, _HEADING = 2.7, 2.1, 0.45  # of a panel and of a section's heading, in inches
_TRAINED = dict(loss='the sum', diff='noise predictor', ae='autoencoder')
_PULL = re.compile(r'(?:pull|agreement)_(?P<pair>(?!.*loss)\w+)')
_LIMITS = dict(share=(0, 1.03), cosine=(-1.03, 1.03))
_DENOISING = re.compile(r'(?:gamma|dist_after)_(?P<pair>\w+)(?P<level>/level_\d+)?')

_Line = Tuple[Series, Dict[str, Any]]  # with the arguments of Axes.plot


class _Panel(NamedTuple):
    title: str
    note: str
    lines: List[_Line]
    scale: str = 'linear'  # or 'log', where the values span decades, or a key of _LIMITS
    reference: Optional[float] = None


def curves_figure(runs: Sequence[RunLog]) -> Figure:
    """Losses, pulls of the pairs, gamma and distances per level, and validation metrics of runs.

    The levels of a pair share a panel if there is a single run; otherwise each level has its own
    panel, in which the runs are compared.

    Args:
        runs: Logs of at most seven runs, which is the number of distinct colours.
    """
    if len(runs) > len(COLOURS):
        raise ConfigError(f'at most {len(COLOURS)} runs can be compared, got {len(runs)}')
    sections = {
        'Losses, and what each of them trains': _loss_panels(runs),
        'Pull of the distances at the student': _pull_panels(runs),
        'Denoising': _denoising_panels(runs),
        'Validation': _metric_panels(runs),
    }
    return _draw(runs, {title: panels for title, panels in sections.items() if panels})


def _names(runs: Sequence[RunLog], part: str) -> List[str]:
    return list(dict.fromkeys(name for run in runs for name in getattr(run, part)))


def _lines(
    runs: Sequence[RunLog], name: str, part: str = 'training', levels: Any = ('',), **style: Any
) -> List[_Line]:
    """A line per run, or per level of a single run where there are several levels."""
    choices = [(run, levels[0], colour, run.name) for run, colour in zip(runs, COLOURS)]
    if len(levels) > 1:
        colours = ordered_colours(len(levels))
        choices = [(runs[0], level, c, level.strip('/')) for level, c in zip(levels, colours)]
    return [
        (getattr(run, part)[name + level], dict(color=colour, label=label) | style)
        for run, level, colour, label in choices
        if name + level in getattr(run, part)
    ]


def _loss_panels(runs: Sequence[RunLog]) -> List[_Panel]:
    logged = _names(runs, 'training')
    names = sorted((name for name in logged if 'loss' in name), key=lambda name: name != 'loss')
    return [_Panel(name, _trained_by(name, logged), _lines(runs, name), 'log') for name in names]


def _trained_by(loss: str, logged: Sequence[str]) -> str:
    """The parameters that a loss trains, judged by its name."""
    kind, _, pair = loss.removeprefix('loss_').partition('_')
    if kind in _TRAINED:
        return _TRAINED[kind]
    head = ' and the head' if f'gamma_{pair}' in logged else ''
    return f'student{head}' + (', not its autoencoder' if f'loss_ae_{pair}' in logged else '')


def _pull_panels(runs: Sequence[RunLog]) -> List[_Panel]:
    matches = filter(None, map(_PULL.fullmatch, _names(runs, 'training')))
    pairs = list(dict.fromkeys(match['pair'] for match in matches))
    kinds = {
        'pull': ('gradient of the distance / of the own losses', 'log'),
        'agreement': ('cosine between the two gradients', 'cosine'),
    }
    panels = []
    for kind, (note, scale) in kinds.items():
        # The pairs share a panel if there is a single run.
        groups = (
            {kind: pairs} if len(runs) == 1 < len(pairs) else {f'{kind} {p}': [p] for p in pairs}
        )
        for title, group in groups.items():
            panels.append(_Panel(title, note, _lines(runs, f'{kind}_', levels=group), scale))
    return [panel for panel in panels if panel.lines]


def _denoising_panels(runs: Sequence[RunLog]) -> List[_Panel]:
    found: Dict[str, Dict[str, None]] = {}
    logged = _names(runs, 'training')
    for match in filter(None, map(_DENOISING.fullmatch, logged)):
        found.setdefault(match['pair'], {})[match['level'] or ''] = None
    panels = []
    for pair, levels in found.items():
        # Runs without TelemetryHook only log the mean over the levels.
        levels = [level for level in levels if level] or ['']
        groups = {pair: levels} if len(runs) == 1 else {pair + level: [level] for level in levels}
        for place, group in groups.items():
            lines = _lines(runs, f'gamma_{pair}', levels=group)
            note = 'share of the student feature kept'
            panels.append(_Panel(f'gamma {place}', note, lines, 'share'))
        for place, group in groups.items():
            lines, note = _lines(runs, f'dist_after_{pair}', levels=group), 'mean square'
            if f'gamma_{pair}' in logged:
                note = 'dashed and hollow: before denoising'
                style = dict(linestyle='--', markerfacecolor='none', label=None)
                lines += _lines(runs, f'dist_before_{pair}', levels=group, **style)
            panels.append(_Panel(f'distance {place}', note, lines, 'log'))
    return [panel for panel in panels if panel.lines]


def _metric_panels(runs: Sequence[RunLog]) -> List[_Panel]:
    panels = []
    for name in _names(runs, 'validation'):
        lines = _lines(runs, name, 'validation')
        # COCO's metric is -1 where there are no objects of the kind.
        empty = all((values == -1).all() for (_, values), _ in lines)
        if empty or name in ('time', 'data_time') or name.startswith('teacher/'):
            continue
        teachers = _lines(runs, f'teacher/{name}', 'validation')
        reference = teachers[0][0][1][-1] if teachers else None
        note = 'last ' + ', '.join(f'{values[-1]:.4g}' for (_, values), _ in lines)
        panels.append(_Panel(name, note, lines, reference=reference))
    return panels


def _draw(runs: Sequence[RunLog], sections: Dict[str, List[_Panel]]) -> Figure:
    rows = {title: -(-len(panels) // _COLUMNS) for title, panels in sections.items()}
    heights = [_HEADING + _HEIGHT * number for number in rows.values()]
    title = f'Run {runs[0].name}' if len(runs) == 1 else f'{len(runs)} runs'
    figure = new_figure(title, _COLUMNS * _WIDTH, sum(heights) + 2 * _HEADING)
    if len(runs) > 1:
        handles = [Line2D([], [], color=c, label=run.name) for c, run in zip(COLOURS, runs)]
        figure.legend(handles=handles, loc='outside upper center', ncols=4, frameon=False)
    parts = figure.subfigures(len(sections), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, (title, panels) in zip(parts, sections.items()):
        part.suptitle(title, fontsize=12, x=0.01, ha='left')
        grid = part.subplots(rows[title], _COLUMNS, squeeze=False).ravel()
        for axes, panel in zip(grid, panels):
            _draw_panel(axes, panel, legend=len(runs) == 1 and len(panel.lines) > 1)
            axes.set_xlim(left=0)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
    return figure


def _draw_panel(axes: Axes, panel: _Panel, legend: bool) -> None:
    for series, style in panel.lines:
        # Markers show single points and short series such as validations.
        marker = 'o' if len(series[1]) < 15 else None
        axes.plot(*series, linewidth=1.2, marker=marker, markersize=3, **style)
    if panel.reference is not None:
        axes.axhline(panel.reference, color=GREY, linestyle=':', label='teacher')
    tidy(axes)
    axes.set_title(panel.title, fontsize=10, loc='left', pad=14)
    axes.text(0, 1.02, panel.note, fontsize=8, color=GREY, transform=axes.transAxes)
    axes.set_xlabel('iteration', fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    # In full: matplotlib's own writes a common offset or factor over the note.
    axes.yaxis.set_major_formatter(StrMethodFormatter('{x:.10g}'))
    if panel.scale in _LIMITS:
        axes.set_ylim(_LIMITS[panel.scale])
    values = np.concatenate([values for (_, values), _ in panel.lines])
    values = values[np.isfinite(values)]
    if panel.scale == 'log' and len(values) and 0 < values.min() < values.max() / 30:
        axes.set_yscale('log')
        axes.yaxis.set_minor_formatter(NullFormatter())
    if legend or panel.reference is not None:
        axes.legend(fontsize=8, frameon=False)
