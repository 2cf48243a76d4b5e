"""What all figures share. They are drawn in memory, without pyplot's global state."""

from typing import Callable, List, Tuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# The colour-blind safe palette of Okabe and Ito, without its yellow, which is too light for lines.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000')
GREY = '#666666'


def new_figure(title: str, width: float, height: float) -> Figure:
    """An empty figure with a title; at a width of 9 inches its text is legible on a page."""
    figure = Figure(figsize=(width, height), dpi=120, layout='constrained')
    figure.suptitle(title, fontsize=14, weight='bold', x=0.01, ha='left')
    return figure


def to_image(figure: Figure) -> np.ndarray:
    """The drawn figure as RGB pixels, (H, W, 3), uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def ordered_colours(number: int) -> List[Tuple[float, ...]]:
    """Colours from dark to light, for ordered things such as the levels of a pyramid."""
    return [colormaps['viridis'](position) for position in np.linspace(0, 0.85, max(number, 2))]


def tidy(axes: Axes) -> None:
    """Give axes a light grid and remove the frame's upper and right side."""
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.tick_params(labelsize=8, length=2)
    axes.spines[['top', 'right']].set_visible(False)


def colouring(target: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function from features, (D, H, W), to colours in 0..1, (H, W, 3).

    Red, green and blue are the first three principal components of a reference feature, so
    features of equal colour are similar in the directions in which the reference varies most.

    Args:
        target: The reference feature, (N, D, H, W).
    """
    # A feature that is not finite would end the run that draws it.
    target = np.nan_to_num(target, posinf=0, neginf=0)
    pixels = np.moveaxis(target, 1, -1).reshape(-1, target.shape[1])
    mean = pixels.mean(0)
    # A thousand pixels suffice for three directions, and keep the SVD of wide features fast.
    sample = pixels[:: -(-len(pixels) // 1000)] - mean
    directions = np.linalg.svd(sample, full_matrices=False)[2][:3]
    # The sign of a direction is arbitrary; a fixed rule keeps the colours of all figures alike.
    strongest = directions[range(len(directions)), np.abs(directions).argmax(1)]
    directions = directions * np.sign(strongest)[:, None]
    low, high = np.percentile((pixels - mean) @ directions.T, (2, 98), axis=0)

    def colours_of(feature: np.ndarray) -> np.ndarray:
        projected = (np.moveaxis(feature, 0, -1) - mean) @ directions.T
        scaled = ((projected - low) / np.maximum(high - low, 1e-12)).clip(0, 1)
        # Features of fewer than three channels leave the other colours constant.
        missing = ((0, 0), (0, 0), (0, 3 - scaled.shape[-1]))
        return np.pad(scaled, missing, constant_values=0.5)

    return colours_of
