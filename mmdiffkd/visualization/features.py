"""Pictures of the features that student and teacher are compared by."""

from typing import List, NamedTuple, Optional, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from .canvas import COLOURS, GREY, new_figure
from .colouring import Colouring

# Sizes in inches.
_CELL = 1.8
_GAP = 0.08
_NUMBERS = 0.2  # above each row, for what is written over its cells
_MARGIN = 0.1
_LABEL = 0.95
_BAR = 0.6  # colour bar and its numbers
_HEAD = 0.75
_FOOT = 0.25  # and a line of the legend
_LINE = 0.17
_BETWEEN_IMAGES = 0.18

_DISTANCE_COLOURS = 'magma'
_MAX_BARS = 40


class Level(NamedTuple):
    """What a pair compares at one of its maps, for some images.

    Attributes:
        aligned: Student feature after its projection, (N, D, H, W).
        refined: The same after denoising, same shape.
        target: The teacher's feature, same shape.
        gamma: Share of the student feature that was kept, (N,); None if no noise was mixed in.
    """

    aligned: np.ndarray
    refined: np.ndarray
    target: np.ndarray
    gamma: Optional[np.ndarray] = None


class _Column(NamedTuple):
    """What stands in the cells below each other: ``shows`` what of which field of a level."""

    header: str
    shows: str
    field: str = ''


def pair_figure(
    title: str, levels: Sequence[Level], images: Optional[np.ndarray] = None
) -> Figure:
    """One row per image and level: image, features, and how far they are from the teacher's.

    Maps are coloured by the first three principal components of the teacher's feature, the same
    for all features of a level; vectors (1x1 maps) are bars. What is compared has one scale.

    Args:
        title: Of the picture.
        levels: One per map, all of the same N images.
        images: (N, H, W, 3) uint8; None draws the features alone.
    """
    colourings = [Colouring(level.target) for level in levels]
    rows = [
        _Row(level, number, index, colouring, None if images is None else images[index])
        for index in range(len(levels[0].target))
        for number, (level, colouring) in enumerate(zip(levels, colourings))
    ]
    denoised = any(level.gamma is not None for level in levels)
    columns = [_Column('image', 'image')] if images is not None else []
    columns.append(_Column('student', 'feature', 'aligned'))
    if denoised:
        columns.append(_Column('student, denoised', 'feature', 'refined'))
    columns.append(_Column('teacher', 'feature', 'target'))
    before = 'distance to teacher' + (',\nbefore denoising' if denoised else '')
    columns.append(_Column(before, 'distance', 'aligned'))
    if denoised:
        columns.append(_Column('distance to teacher,\nafter denoising', 'distance', 'refined'))
    return _lay_out(title, rows, columns)


class _Row:
    """One image at one level."""

    def __init__(
        self,
        level: Level,
        number: int,
        index: int,
        colouring: Colouring,
        image: Optional[np.ndarray],
    ) -> None:
        self.number = number
        self.index = index
        self.colouring = colouring
        self.image = image
        self.features = {field: getattr(level, field)[index] for field in Level._fields[:3]}
        self.gamma = None if level.gamma is None else float(level.gamma[index])
        target = self.features['target']
        self.errors = {
            field: (self.features[field] - target) ** 2 for field in ('aligned', 'refined')
        }
        # What one sees is the root, in the units of the feature; the log has the mean square.
        self.distances = {field: np.sqrt(e.mean(0)) for field, e in self.errors.items()}
        self.is_vector = target.shape[1:] == (1, 1)
        self.channels = _shown_channels(target) if self.is_vector else None

    @property
    def height(self) -> float:
        """Of the cells, in inches. Maps cover the image, so they get its proportions."""
        if self.is_vector:
            return 0.7 * _CELL
        shape = self.features['target'].shape[1:] if self.image is None else self.image.shape
        return _CELL * min(max(shape[0] / shape[1], 0.4), 1.6)

    def draw(self, axes: Axes, column: _Column) -> None:
        """Fill one cell."""
        getattr(self, f'_draw_{column.shows}')(axes, column.field)

    def _draw_image(self, axes: Axes, _: str) -> None:
        axes.imshow(self.image)

    def _draw_feature(self, axes: Axes, field: str) -> None:
        if self.is_vector:
            self._draw_bars(axes, self.features, field, GREY if field == 'target' else COLOURS[0])
        else:
            colours = self.colouring(self.features[field])
            axes.imshow(colours, aspect='auto', interpolation='nearest')
        if field == 'refined' and self.gamma is not None:
            axes.set_title(f'γ = {self.gamma:.2f}', fontsize=9, pad=2)

    def _draw_distance(self, axes: Axes, field: str) -> None:
        if self.is_vector:
            roots = {name: np.sqrt(error) for name, error in self.errors.items()}
            self._draw_bars(axes, roots, field, COLOURS[1])
        else:
            axes.imshow(
                self.distances[field],
                aspect='auto',
                interpolation='nearest',
                **self.distance_scale,
            )
        axes.set_title(f'mean square {self.errors[field].mean():.3g}', fontsize=9, pad=2)

    @property
    def distance_scale(self) -> dict:
        """Shared by the distances before and after."""
        highest = max(distance.max() for distance in self.distances.values())
        return dict(cmap=_DISTANCE_COLOURS, norm=Normalize(0, highest or 1))

    def _draw_bars(self, axes: Axes, values: dict, field: str, colour: str) -> None:
        shown = {name: value[self.channels, 0, 0] for name, value in values.items()}
        low = min(0, *(value.min() for value in shown.values()))
        high = max(0, *(value.max() for value in shown.values()))
        space = 0.05 * (high - low) or 1
        axes.bar(range(len(self.channels)), shown[field], width=0.8, color=colour)
        axes.axhline(0, color='black', linewidth=0.6)
        axes.set_ylim(low - space, high + space)
        axes.set_xlim(-1, len(self.channels))


def _shown_channels(vector: np.ndarray) -> np.ndarray:
    """Indices of the channels with bars: all, or those in which the vector is largest."""
    values = vector[:, 0, 0]
    if len(values) <= _MAX_BARS:
        return np.arange(len(values))
    return np.argsort(-values)[:_MAX_BARS]


def _lay_out(title: str, rows: Sequence[_Row], columns: Sequence[_Column]) -> Figure:
    width = _MARGIN + _LABEL + len(columns) * (_CELL + _GAP) + _BAR + _MARGIN
    gaps = [_BETWEEN_IMAGES if row.number == 0 and row.index else 0 for row in rows]
    legend = _legend(rows)
    foot = _FOOT + _LINE * len(legend)
    height = _HEAD + sum(row.height + _NUMBERS for row in rows) + sum(gaps) + foot
    figure = new_figure(width, height)
    left = _MARGIN + _LABEL

    def write(x: float, y: float, text: str, **kwargs) -> None:
        figure.text(x / width, y / height, text, **kwargs)

    write(_MARGIN, height - 0.12, title, fontsize=13, va='top', weight='bold')
    for position, column in enumerate(columns):
        x = left + position * (_CELL + _GAP) + _CELL / 2
        write(x, height - _HEAD + 0.06, column.header, fontsize=11, ha='center', va='bottom')

    top = height - _HEAD
    for row, gap in zip(rows, gaps):
        top -= gap + _NUMBERS
        bottom = top - row.height
        write(_MARGIN, (top + bottom) / 2, _label(row), fontsize=9, va='center')
        for position, column in enumerate(columns):
            x = left + position * (_CELL + _GAP)
            axes = figure.add_axes(
                (x / width, bottom / height, _CELL / width, row.height / height),
                xticks=[],
                yticks=[],
            )
            row.draw(axes, column)
        if not row.is_vector:
            x = left + len(columns) * (_CELL + _GAP)
            bar = figure.add_axes((x / width, bottom / height, 0.1 / width, row.height / height))
            figure.colorbar(ScalarMappable(**row.distance_scale), cax=bar)
            bar.tick_params(labelsize=8)
        top = bottom
    write(_MARGIN, 0.1, '\n'.join(legend), fontsize=9, va='bottom', color=GREY)
    return figure


def _label(row: _Row) -> str:
    channels, height, width = row.features['target'].shape
    size = f'{channels} values' if row.is_vector else f'{channels} x {height} x {width}'
    # Without images these are the rows of a module that runs on proposals.
    entry = 'entry' if row.image is None else 'image'
    return f'{entry} {row.index + 1}\nlevel {row.number}\n{size}'


def _legend(rows: Sequence[_Row]) -> List[str]:
    """How to read what is in the picture, one sentence per line."""
    lines = []
    if any(row.gamma is not None for row in rows):
        lines.append(
            "γ: share of the student's feature that is kept, the rest is replaced by noise before "
            'denoising.'
        )
    if not all(row.is_vector for row in rows):
        lines.append(
            "Colours of the features: the three directions in which the teacher's varies most. "
            'Same colour, same content.'
        )
        lines.append(
            'Distance: root of the mean square over channels, dark is near; one scale per row.'
        )
    if any(row.is_vector for row in rows):
        lines.append(
            f"Bars: one per channel, of more than {_MAX_BARS} those in which the teacher's value is "
            f'largest; one scale per row.'
        )
    return lines
