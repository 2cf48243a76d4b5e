"""The picture of a comparison of methods."""

from typing import Dict, Optional, Sequence

from matplotlib.figure import Figure

from mmdiffkd.visualization.canvas import COLOURS, GREY, new_figure, tidy


def comparison_figure(
    title: str, metric: str, values: Dict[str, Sequence[float]], teacher: Optional[float] = None
) -> Figure:
    """A row per method, with a dot per seed and a line for the mean.

    Args:
        title: Title of the figure.
        metric: Name of the metric.
        values: Method -> the metric of each seed; a method that failed has none.
        teacher: The metric of the teacher, drawn as a line through all rows.
    """
    figure = new_figure(title, 9, 1.4 + 0.4 * len(values))
    axes = figure.subplots()
    for row, seeds in enumerate(values.values()):
        if not seeds:
            place = dict(transform=axes.get_yaxis_transform(), va='center')
            axes.text(0.01, row, 'no result', color=GREY, **place)
            continue
        mean = sum(seeds) / len(seeds)
        axes.plot(seeds, [row] * len(seeds), 'o', color=COLOURS[0], alpha=0.6, markersize=6)
        axes.vlines(mean, row - 0.32, row + 0.32, color=COLOURS[1], linewidth=2.5)
    axes.plot([], [], 'o', color=COLOURS[0], alpha=0.6, label='a seed')
    axes.plot([], [], color=COLOURS[1], linewidth=2.5, label='mean')
    if teacher is not None:
        axes.axvline(teacher, color=GREY, linestyle=':', label='teacher')
    axes.set_yticks(range(len(values)), values)
    axes.set_ylim(len(values) - 0.5, -0.5)
    tidy(axes)
    axes.tick_params(labelsize=10)
    axes.set_xlabel(f'{metric}, last validation', fontsize=10)
    figure.legend(loc='outside lower right', ncols=3, fontsize=9, frameon=False)
    return figure
