"""One image at one level of a pair: how its features and distances are drawn."""

from typing import Dict, NamedTuple, Optional, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from mmdiffkd.visualization.canvas import COLOURS, GREY
from mmdiffkd.visualization.colouring import Colouring

MAX_BARS = 40


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

    @property
    def is_vector(self) -> bool:
        """Whether there is a single value per channel, as in logits."""
        return self.target.shape[2:] == (1, 1)


class Row:
    """What all rows have in common.

    Args:
        level: The features.
        index: Which of the N images.
        number: Of the level.
        image: (H, W, 3) uint8; None if there is none.
    """

    def __init__(self, level: Level, index: int, number: int, image: Optional[np.ndarray]) -> None:
        self.index = index
        self.number = number
        self.image = image
        self.gamma = None if level.gamma is None else float(level.gamma[index])
        self.features = {name: getattr(level, name)[index] for name in Level._fields[:3]}
        self.errors = {
            name: (self.features[name] - self.features['target']) ** 2
            for name in ('aligned', 'refined')
        }

    @property
    def label(self) -> str:
        """Which image, which level, and the size of its features."""
        # Without images these are the rows of a module that runs on proposals.
        entry = 'entry' if self.image is None else 'image'
        channels, height, width = self.features['target'].shape
        size = '' if height == width == 1 else f'\n{height} x {width}'
        return f'{entry} {self.index + 1}\nlevel {self.number}\n{channels} channels{size}'

    @property
    def proportions(self) -> float:
        """Height of a cell over its width."""
        raise NotImplementedError

    @property
    def colour_bar(self) -> Optional[ScalarMappable]:
        """Scale of the distances, if they are colours."""
        return None

    def draw_image(self, axes: Axes) -> None:
        """The image as the student saw it."""
        axes.imshow(self.image)

    def draw_feature(self, axes: Axes, name: str) -> None:
        """``'aligned'``, ``'refined'`` or ``'target'``."""
        self._feature(axes, name)
        if name == 'refined' and self.gamma is not None:
            axes.set_title(f'γ = {self.gamma:.2f}', fontsize=9, pad=2)

    def draw_distance(self, axes: Axes, name: str) -> None:
        """Of ``'aligned'`` or ``'refined'`` to the target."""
        self._distance(axes, name)
        axes.set_title(f'mean square {self.errors[name].mean():.3g}', fontsize=9, pad=2)

    def _feature(self, axes: Axes, name: str) -> None:
        raise NotImplementedError

    def _distance(self, axes: Axes, name: str) -> None:
        raise NotImplementedError


class MapRow(Row):
    """Features with height and width, as colours.

    Args:
        colouring: The same for all rows of a level.
    """

    def __init__(self, colouring: Colouring, *args) -> None:
        super().__init__(*args)
        self.colouring = colouring
        # The root has the unit of the feature and shows more than the square, which the log has.
        self.distances = {name: np.sqrt(error.mean(0)) for name, error in self.errors.items()}

    @property
    def proportions(self) -> float:
        """Maps cover the image, so they get its proportions, unless those are extreme."""
        shape = self.features['target'].shape[1:] if self.image is None else self.image.shape
        return min(max(shape[0] / shape[1], 0.4), 1.6)

    @property
    def colour_bar(self) -> ScalarMappable:
        """Shared by the distances before and after."""
        highest = max(distance.max() for distance in self.distances.values())
        return ScalarMappable(Normalize(0, highest or 1), 'magma')

    def _feature(self, axes: Axes, name: str) -> None:
        colours = self.colouring(self.features[name])
        axes.imshow(colours, aspect='auto', interpolation='nearest')

    def _distance(self, axes: Axes, name: str) -> None:
        scale = self.colour_bar
        axes.imshow(
            self.distances[name],
            aspect='auto',
            interpolation='nearest',
            norm=scale.norm,
            cmap=scale.cmap,
        )


class VectorRow(Row):
    """Features of one value per channel, as bars."""

    proportions = 0.7

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.channels = shown_channels(self.features['target'])

    def _feature(self, axes: Axes, name: str) -> None:
        colour = GREY if name == 'target' else COLOURS[0]
        self._bars(axes, self.features, name, colour)

    def _distance(self, axes: Axes, name: str) -> None:
        roots = {key: np.sqrt(error) for key, error in self.errors.items()}
        self._bars(axes, roots, name, COLOURS[1])

    def _bars(self, axes: Axes, values: Dict[str, np.ndarray], name: str, colour: str) -> None:
        shown = {key: value[self.channels] for key, value in values.items()}
        draw_bars(axes, shown[name], limits_of(*shown.values()), colour)


def shown_channels(vector: np.ndarray) -> np.ndarray:
    """Indices of the channels with bars: all, or those in which a (C, 1, 1) vector is largest."""
    if len(vector) <= MAX_BARS:
        return np.arange(len(vector))
    return np.argsort(-vector.ravel())[:MAX_BARS]


def limits_of(*vectors: np.ndarray) -> Tuple[float, float]:
    """A scale with zero on which all vectors fit."""
    low, high = min(0, *(v.min() for v in vectors)), max(0, *(v.max() for v in vectors))
    space = 0.05 * (high - low) or 1
    return low - space, high + space


def draw_bars(axes: Axes, vector: np.ndarray, limits: Tuple[float, float], colour: str) -> None:
    """A vector, (C, 1, 1), as bars."""
    axes.bar(range(len(vector)), vector.ravel(), width=0.8, color=colour)
    axes.axhline(0, color='black', linewidth=0.6)
    axes.set_ylim(*limits)
    axes.set_xlim(-1, len(vector))
