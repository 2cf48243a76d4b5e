"""Pictures of the features that student and teacher are compared by."""

from typing import Callable, List, NamedTuple, Optional, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmdiffkd.visualization.canvas import GREY, new_figure
from mmdiffkd.visualization.colouring import Colouring
from mmdiffkd.visualization.feature_rows import MAX_BARS, Level, MapRow, Row, VectorRow

# Inches.
_CELL = 1.8
_GAP = 0.08
_MARGIN = 0.1
_HEAD = 0.75
_LABEL = 0.95  # left of a row
_NUMBERS = 0.2  # over the cells of a row
_BAR = 0.6  # colour bar and its numbers
_BETWEEN_IMAGES = 0.18
_LEGEND_LINE = 0.17


class _Column(NamedTuple):
    header: str
    draw: Callable[[Row, Axes], None]


def pair_figure(title: str, levels: Sequence[Level], images: Optional[np.ndarray] = None) -> Figure:
    """One row per image and level: image, features, and how far they are from the teacher's.

    Maps are coloured by the first three principal components of the teacher's feature, the same
    for all features of a level; vectors (1x1 maps) are bars. What is compared has one scale.

    Args:
        title: Of the picture.
        levels: One per map, all of the same N images.
        images: (N, H, W, 3) uint8; None draws the features alone.
    """
    by_level = [
        _rows_of_level(level, number, images if images is not None else [None] * len(level.target))
        for number, level in enumerate(levels)
    ]
    rows = [row for of_one_image in zip(*by_level) for row in of_one_image]
    denoised = any(level.gamma is not None for level in levels)
    columns = _columns(denoised, with_images=images is not None)
    return _lay_out(title, rows, columns, _legend(levels, denoised))


def _rows_of_level(level: Level, number: int, images: Sequence) -> List[Row]:
    if level.is_vector:
        return [VectorRow(level, index, number, image) for index, image in enumerate(images)]
    colouring = Colouring(level.target)
    return [MapRow(colouring, level, index, number, image) for index, image in enumerate(images)]


def _columns(denoised: bool, with_images: bool) -> List[_Column]:
    def feature(header: str, name: str) -> _Column:
        return _Column(header, lambda row, axes: row.draw_feature(axes, name))

    def distance(header: str, name: str) -> _Column:
        return _Column(header, lambda row, axes: row.draw_distance(axes, name))

    image = [_Column('image', Row.draw_image)] if with_images else []
    teacher = feature('teacher', 'target')
    if not denoised:
        student = feature('student', 'refined')
        return [*image, student, teacher, distance('distance to teacher', 'refined')]
    return [
        *image,
        feature('student', 'aligned'),
        feature('student, denoised', 'refined'),
        teacher,
        distance('distance to teacher,\nbefore denoising', 'aligned'),
        distance('distance to teacher,\nafter denoising', 'refined'),
    ]


def _legend(levels: Sequence[Level], denoised: bool) -> List[str]:
    """How to read what is in the picture, line by line."""
    lines = []
    if denoised:
        lines.append(
            "γ: share of the student's feature that is kept; the rest is replaced by noise before "
            'denoising.'
        )
    if not all(level.is_vector for level in levels):
        lines += [
            "Colours of the features: the three directions in which the teacher's varies most. "
            'Same colour, same content.',
            'Distance: root of the mean square over channels, dark is near. One scale per row.',
        ]
    if any(level.is_vector for level in levels):
        lines.append(
            f"Bars: one per channel; of more than {MAX_BARS}, those with the teacher's largest "
            f'values. One scale per row.'
        )
    return lines


def _lay_out(
    title: str, rows: Sequence[Row], columns: Sequence[_Column], legend: Sequence[str]
) -> Figure:
    heights = [_CELL * row.proportions for row in rows]
    gaps = [_BETWEEN_IMAGES if row.number == 0 and row.index > 0 else 0 for row in rows]
    lefts = [_MARGIN + _LABEL + position * (_CELL + _GAP) for position in range(len(columns) + 1)]
    width = lefts[-1] + _BAR + _MARGIN
    foot = 2 * _MARGIN + _LEGEND_LINE * len(legend)
    height = _HEAD + sum(heights) + sum(gaps) + _NUMBERS * len(rows) + foot
    figure = new_figure(width, height)

    def write(x: float, y: float, text: str, **kwargs) -> None:
        figure.text(x / width, y / height, text, **kwargs)

    def add_axes(x: float, y: float, w: float, h: float, **kwargs) -> Axes:
        return figure.add_axes((x / width, y / height, w / width, h / height), **kwargs)

    write(_MARGIN, height - 0.12, title, fontsize=13, va='top', weight='bold')
    write(_MARGIN, _MARGIN, '\n'.join(legend), fontsize=9, va='bottom', color=GREY)
    bottom = height - _HEAD
    for left, column in zip(lefts, columns):
        middle = left + _CELL / 2
        write(middle, bottom + 0.06, column.header, fontsize=11, ha='center', va='bottom')
    for row, row_height, gap in zip(rows, heights, gaps):
        bottom -= gap + _NUMBERS + row_height
        write(_MARGIN, bottom + row_height / 2, row.label, fontsize=9, va='center')
        for left, column in zip(lefts, columns):
            column.draw(row, add_axes(left, bottom, _CELL, row_height, xticks=[], yticks=[]))
        if row.colour_bar is not None:
            bar = add_axes(lefts[-1], bottom, 0.1, row_height)
            figure.colorbar(row.colour_bar, cax=bar)
            bar.tick_params(labelsize=8)
    return figure
