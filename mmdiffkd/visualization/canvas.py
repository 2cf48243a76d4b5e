"""Figures without a window: matplotlib's objects, never its pyplot state."""

from pathlib import Path
from typing import Any, List, Tuple, Union

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 80

# The colour-blind safe palette of Okabe and Ito, without its yellow, which is too light for lines.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000')
GREY = '#666666'


def new_figure(width: float, height: float, **kwargs: Any) -> Figure:
    """An empty figure of a size in inches that draws to memory."""
    figure = Figure(figsize=(width, height), dpi=DPI, **kwargs)
    FigureCanvasAgg(figure)
    return figure


def to_image(figure: Figure) -> np.ndarray:
    """The drawn figure as RGB pixels, (H, W, 3), uint8."""
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]


def save(figure: Figure, path: Union[str, Path]) -> Path:
    """Write a figure to an image file, whose folder is made if need be."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def ordered_colours(number: int) -> List[Tuple[float, ...]]:
    """Colours from dark to light for things that have an order, such as levels of a pyramid."""
    return [colormaps['viridis'](position) for position in np.linspace(0, 0.85, max(number, 2))]


def tidy(axes: Axes) -> None:
    """Leave away what a reader of curves does not need."""
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.tick_params(labelsize=8, length=2)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
