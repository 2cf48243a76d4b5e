"""Figures of how well a noise predictor denoises the features of the teacher."""

from typing import List, NamedTuple, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from mmdiffkd.visualization.canvas import GREY, colouring, new_figure, ordered_colours, tidy
from mmdiffkd.visualization.features import draw_bars, shown_channels

_PICTURES = 6


class NoiseSweep(NamedTuple):
    """Teacher features with noise of several levels, denoised by a head.

    Attributes:
        timesteps: Noise levels, integers in ``0..T-1``, ascending, (L,).
        start: Timestep from which the head denoises student features.
        target: Clean feature, (N, D, H, W).
        noisy: Feature with noise of each level, (L, N, D, H, W).
        denoised: Feature after the DDIM steps from each level, (L, N, D, H, W).
        prediction_error: Squared error of the predicted noise, (L,); it is 1 for predicting zero.
    """

    timesteps: np.ndarray
    start: int
    target: np.ndarray
    noisy: np.ndarray
    denoised: np.ndarray
    prediction_error: np.ndarray

    def relative_error(self, feature: np.ndarray) -> np.ndarray:
        """Squared error over the target's variance, (L,); it is 1 for the mean feature."""
        variance = self.target.var(axis=(0, 2, 3)).mean()
        return ((feature - self.target) ** 2).mean(axis=(1, 2, 3, 4)) / variance


def noise_sweep_figure(title: str, sweeps: Sequence[NoiseSweep]) -> Figure:
    """Errors of the noise predictor over the noise level, and pictures of one feature.

    Args:
        title: Title of the figure.
        sweeps: Sweeps of the levels of a pair, over the same timesteps; the first is pictured.
    """
    figure = new_figure(title, 10.6, 6.4)
    above, below = figure.subfigures(2, 1, height_ratios=(3.8, 2.4))
    prediction, feature = above.subplots(1, 2)
    _draw_errors(prediction, feature, sweeps)
    _draw_maps(below, sweeps[0])
    return figure


def _draw_errors(prediction: Axes, feature: Axes, sweeps: Sequence[NoiseSweep]) -> None:
    start = sweeps[0].start
    for number, (sweep, colour) in enumerate(zip(sweeps, ordered_colours(len(sweeps)))):
        label = f'level {number}'
        prediction.plot(sweep.timesteps, sweep.prediction_error, color=colour, label=label)
        feature.plot(sweep.timesteps, sweep.relative_error(sweep.noisy), '--', color=colour)
        feature.plot(sweep.timesteps, sweep.relative_error(sweep.denoised), color=colour)
    prediction.set(ylabel='mean squared error of the noise', title='Is the noise found?')
    feature.set(
        ylabel='distance to teacher / variance', title='Does denoising recover the feature?'
    )
    for axes, reference in ((prediction, 'predicting zero'), (feature, 'the mean feature')):
        axes.axhline(1, color=GREY, linestyle=':')
        style = dict(fontsize=8, color=GREY, ha='right', va='bottom')
        axes.text(sweeps[0].timesteps[-1], 1.01, reference, **style)
        axes.axvline(start, color=GREY, linewidth=0.8, label=f'students start at t = {start}')
        axes.set_xlabel('noise level t', fontsize=9)
        tidy(axes)
    # The scale ignores the denoised feature, which may diverge at unusually high noise.
    highest = max(sweep.relative_error(sweep.noisy).max() for sweep in sweeps)
    feature.set_ylim(0, 1.2 * max(highest, 1))
    prediction.set_ylim(bottom=0)
    feature.plot([], [], 'k--', label='noisy')
    feature.plot([], [], 'k-', label='denoised')
    for axes in (prediction, feature):
        axes.legend(fontsize=9, frameon=False)


def _draw_maps(figure: SubFigure, sweep: NoiseSweep) -> None:
    wanted = np.linspace(0, 1.5 * sweep.start, _PICTURES)
    shown = np.abs(sweep.timesteps - wanted[:, None]).argmin(1)
    rows = figure.subplots(2, _PICTURES + 1)
    for row, maps, name in zip(rows, (sweep.noisy, sweep.denoised), ('noisy', 'denoised')):
        row[0].set_ylabel(name, fontsize=11)
        _draw_features(row, [*maps[shown, 0], sweep.target[0]], sweep.target)
    for axes, title in zip(rows[0], [*(f't = {t}' for t in sweep.timesteps[shown]), 'teacher']):
        axes.set_title(title, fontsize=10)
    for axes in rows.ravel():
        axes.set(xticks=[], yticks=[])


def _draw_features(row: Sequence[Axes], features: List[np.ndarray], target: np.ndarray) -> None:
    if target.shape[2:] == (1, 1):
        channels, limit = shown_channels(target[0]), 2 * np.abs(target[0]).max()
        draw_bars(row, [feature[channels].clip(-limit, limit) for feature in features])
        return
    colours_of = colouring(target)
    for axes, feature in zip(row, features):
        axes.imshow(colours_of(feature), interpolation='nearest')
