"""Figures of the features in which student and teacher are compared."""

from typing import Callable, Mapping, NamedTuple, Optional, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from mmdiffkd.visualization.canvas import COLOURS, GREY, colouring, new_figure

MAX_BARS = 40
_CELL = 1.3  # width of a cell in inches
_Colours = Optional[Callable[[np.ndarray], np.ndarray]]
_DENOISED = ['student', 'student,\ndenoised', 'teacher']
_DENOISED += [f'distance\n{when} denoising' for when in ('before', 'after')]
_SHARE = "γ: share of the student's feature that is kept; noise replaces the rest."
_MAPS = """Colours: the three directions in which the feature of the teacher varies most.
Distance: mean of the squared differences over the channels. Each row has its own scale."""
_BARS = f"""Bars: one per channel, at most the {MAX_BARS} in which the teacher is largest.
Distance: the squared difference. Each row has its own scale."""


class Level(NamedTuple):
    """Features of one level of a pair.

    Attributes:
        aligned: Projected student feature, (N, D, H, W).
        refined: Student feature after denoising, (N, D, H, W).
        target: Teacher feature, (N, D, H, W).
        gamma: Share of the student feature kept when noise is mixed in, (N,); None without noise.
    """

    aligned: np.ndarray
    refined: np.ndarray
    target: np.ndarray
    gamma: Optional[np.ndarray] = None


def pair_figure(
    title: str, levels: Mapping[int, Level], images: Optional[np.ndarray] = None
) -> Figure:
    """A row per image and level: the image, the features, and their distances to the teacher's.

    Maps are coloured by the principal components of the teacher's feature, vectors are drawn as
    bars. All features of a row have the same scale.

    Args:
        title: Title of the figure.
        levels: Levels of the pair by their number. Behind proposals N may differ.
        images: Pixels of the images, (N, H, W, 3), uint8; None leaves their column out.
    """
    denoised = any(level.gamma is not None for level in levels.values())
    headers = [] if images is None else ['image']
    headers += _DENOISED if denoised else ['student', 'teacher', 'distance\nto teacher']
    entries = [(i, number) for number, level in levels.items() for i in range(len(level.target))]
    rows, first = sorted(entries), next(iter(levels.values()))
    # A cell has the proportions of the image, within limits.
    height, width = first.target.shape[2:] if images is None else images.shape[1:3]
    height = (_CELL * np.clip(height / width, 0.4, 1.6) + 0.2) * len(rows) + 1.6
    figure = new_figure(title, _CELL * len(headers) + 1.6, height)
    # The last column is for the colour bars.
    widths = [1] * len(headers) + [0.05]
    grid = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths)
    for cell, header in zip(grid[0], headers):
        above = dict(xycoords='axes fraction', xytext=(0, 15), textcoords='offset points')
        cell.annotate(header, (0.5, 1), ha='center', va='bottom', fontsize=11, **above)
    # Vectors, such as logits, have no colours.
    colourings = {
        number: colouring(level.target) if level.target.shape[2:] != (1, 1) else None
        for number, level in levels.items()
    }
    for cells, (index, number) in zip(grid.tolist(), rows):
        level = levels[number]
        _label(cells[0], level, f'{"entry" if images is None else "image"} {index + 1}', number)
        for cell in cells[:-1]:
            cell.set(xticks=[], yticks=[])
        if images is not None:
            cells.pop(0).imshow(images[index], aspect='auto')
        names = ('aligned', 'refined') if denoised else ('refined',)
        _draw_row(cells, level, index, names, colourings[number])
    legend = [_SHARE] * denoised + [_MAPS if all(colourings.values()) else _BARS]
    figure.supxlabel('\n'.join(legend), fontsize=9, color=GREY, x=0.01, ha='left')
    return figure


def _label(cell: Axes, level: Level, entry: str, number: int) -> None:
    channels, height, width = level.target.shape[1:]
    text = f'{entry}\nlevel {number}\n{channels} channels\n{height} x {width}'
    cell.set_ylabel(text, rotation=0, ha='right', va='center', multialignment='left', fontsize=9)


def _draw_row(
    cells: Sequence[Axes], level: Level, index: int, names: Sequence[str], colours_of: _Colours
) -> None:
    """Draw the features ``names`` and the target, then the distances of the former to it."""
    features = [getattr(level, name)[index] for name in (*names, 'target')]
    errors = [(feature - features[-1]) ** 2 for feature in features[:-1]]
    distance_cells = cells[len(features) : -1]
    if colours_of is None:
        channels = shown_channels(features[-1])
        draw_bars(cells, [feature[channels] for feature in features])
        draw_bars(distance_cells, [error[channels] for error in errors], COLOURS[1])
        cells[-1].set_axis_off()
    else:
        distances = [error.mean(0) for error in errors]
        # The root shows small ones too.
        scale = dict(cmap='magma', norm=PowerNorm(0.5, 0, np.max(distances) or 1))
        for cell, picture in zip(cells, [*map(colours_of, features), *distances]):
            drawn = cell.imshow(picture, aspect='auto', interpolation='nearest', **scale)
        bar = cells[-1].figure.colorbar(drawn, cax=cells[-1])
        bar.ax.tick_params(labelsize=8)
    for cell, error in zip(distance_cells, errors):
        cell.set_title(f'distance {error.mean():.3g}', fontsize=9, pad=2)
    if level.gamma is not None:
        cells[names.index('refined')].set_title(f'γ = {level.gamma[index]:.2f}', fontsize=9, pad=2)


def shown_channels(vector: np.ndarray) -> np.ndarray:
    """Channels of a (C, 1, 1) vector that get a bar: the largest, in ascending order."""
    return np.sort(np.argsort(-vector.ravel())[:MAX_BARS])


def draw_bars(cells: Sequence[Axes], vectors: Sequence, colour: str = COLOURS[0]) -> None:
    """Draw (C, 1, 1) vectors as bars, all with the same scale."""
    low, high = min(0, np.min(vectors)), max(0, np.max(vectors))
    space = 0.05 * (high - low) or 1
    for cell, vector in zip(cells, vectors):
        cell.bar(range(len(vector)), vector.ravel(), width=0.8, color=colour)
        cell.axhline(0, color='black', linewidth=0.6)
        cell.set(ylim=(low - space, high + space), xlim=(-1, len(vector)))
