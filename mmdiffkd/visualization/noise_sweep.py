"""Does denoising work? Teacher features plus growing noise, and what the noise predictor makes of
them."""

import copy
from typing import Callable, NamedTuple, Optional, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from torch import Tensor

from mmdiffkd.diffusion import (
    DiffKDHead,
    add_noise,
    ddim_denoise,
    ddim_steps_at,
    linear_alphas_cumprod,
)
from mmdiffkd.visualization.canvas import COLOURS, GREY, new_figure, ordered_colours, tidy
from mmdiffkd.visualization.colouring import Colouring
from mmdiffkd.visualization.feature_rows import draw_bars, limits_of, shown_channels


class NoiseSweep(NamedTuple):
    """What a head's noise predictor makes of noisy teacher features.

    Attributes:
        timesteps: Noise levels, integers in ``0..T-1``, ascending, (L,).
        start: The timestep from which the head denoises student features.
        target: The clean feature, (N, D, H, W).
        noisy: With noise of each level, (L, N, D, H, W).
        denoised: After the DDIM steps from there, same shape.
        prediction_error: Mean squared error of the noise predicted at each level, (L,). The noise
            has variance 1, so 1 is the error of predicting none.
    """

    timesteps: np.ndarray
    start: int
    target: np.ndarray
    noisy: np.ndarray
    denoised: np.ndarray
    prediction_error: np.ndarray

    def relative_error(self, feature: np.ndarray) -> np.ndarray:
        """Mean squared error over the target's variance, per noise level, (L,).

        1 is the error of knowing nothing but the mean feature.
        """
        variance = self.target.var(axis=(0, 2, 3)).mean()
        return ((feature - self.target) ** 2).mean(axis=(1, 2, 3, 4)) / variance


@torch.no_grad()
def sweep_noise(
    head: DiffKDHead,
    target: Tensor,
    timesteps: Sequence[int],
    generator: Optional[torch.Generator] = None,
) -> NoiseSweep:
    """Diffuse a teacher feature to several noise levels, and denoise it from each.

    The noise is the same at all levels. Steps are as long as in training, and batch norms use the
    batch's statistics as in training. The head stays as it is.

    Args:
        head: A trained one.
        target: Teacher feature in the diffusion's width (:class:`HeadOutput`), (N, D, H, W).
        timesteps: Integers in ``0..T-1``, ascending.
        generator: Source of the noise; None is the device's default generator.
    """
    denoiser = copy.deepcopy(head.denoiser).train()
    num_timesteps = len(head.signal_scale)
    alphas_cumprod = linear_alphas_cumprod(num_timesteps)
    stride = num_timesteps // (2 * len(head.steps))
    noise = torch.randn(target.shape, generator=generator, device=target.device)
    noisy, denoised, errors = [], [], []
    for timestep in timesteps:
        level = torch.full((len(target),), timestep, device=target.device)
        noisy.append(add_noise(target, noise, head.signal_scale[level], head.noise_scale[level]))
        steps = ddim_steps_at(alphas_cumprod, range(timestep, -1, -stride))
        denoised.append(ddim_denoise(denoiser, noisy[-1], steps))
        errors.append(F.mse_loss(denoiser(noisy[-1], timestep), noise))
    tensors = (target, *map(torch.stack, (noisy, denoised, errors)))
    return NoiseSweep(
        np.array(timesteps),
        head.steps[0].timestep,
        *(tensor.float().cpu().numpy() for tensor in tensors),
    )


def noise_sweep_figure(title: str, sweeps: Sequence[NoiseSweep], num_pictures: int = 6) -> Figure:
    """Errors of the noise predictor over the noise level, and pictures of one map.

    Args:
        title: Of the figure.
        sweeps: One per level of a pair, of the same timesteps; the first is pictured.
        num_pictures: Noise levels that are pictured.
    """
    figure = new_figure(10.6, 6.4, layout='constrained')
    figure.suptitle(title, fontsize=14, weight='bold', x=0.01, ha='left')
    above, below = figure.subfigures(2, 1, height_ratios=(3.8, 2.4))
    _draw_errors(above, sweeps)
    _draw_maps(below, sweeps[0], num_pictures)
    return figure


def _draw_errors(figure: SubFigure, sweeps: Sequence[NoiseSweep]) -> None:
    prediction, feature = figure.subplots(1, 2)
    colours = ordered_colours(len(sweeps))
    for number, (sweep, colour) in enumerate(zip(sweeps, colours)):
        label = f'level {number}'
        prediction.plot(sweep.timesteps, sweep.prediction_error, color=colour, label=label)
        feature.plot(sweep.timesteps, sweep.relative_error(sweep.noisy), '--', color=colour)
        feature.plot(sweep.timesteps, sweep.relative_error(sweep.denoised), color=colour)
    start, end = sweeps[0].start, sweeps[0].timesteps[-1]
    for axes, reference in ((prediction, 'predicting none'), (feature, 'the mean feature')):
        axes.axhline(1, color=GREY, linestyle=':')
        axes.text(end, 1.01, reference, fontsize=8, color=GREY, ha='right', va='bottom')
        axes.axvline(start, color=GREY, linewidth=0.8)
        axes.set_xlabel('noise level t', fontsize=9)
        tidy(axes)
    prediction.set_title('Is the noise found?', fontsize=11, loc='left')
    prediction.set_ylabel('mean squared error of the predicted noise', fontsize=9)
    prediction.set_ylim(bottom=0)
    prediction.legend(fontsize=9, frameon=False)
    feature.set_title('Does denoising bring the feature back?', fontsize=11, loc='left')
    feature.set_ylabel("squared error / variance of the teacher's feature", fontsize=9)
    # Denoising from far more noise than it is used for may diverge, and leave nothing else to see.
    highest = max(sweep.relative_error(sweep.noisy).max() for sweep in sweeps)
    feature.set_ylim(0, 1.2 * max(highest, 1))
    handles = [
        Line2D([], [], color='black', linestyle='--', label='noisy'),
        Line2D([], [], color='black', label='denoised'),
        Line2D([], [], color=GREY, linewidth=0.8, label=f'students start at t = {start}'),
    ]
    feature.legend(handles=handles, fontsize=9, frameon=False)


def _draw_maps(figure: SubFigure, sweep: NoiseSweep, number: int) -> None:
    wanted = np.linspace(0, 1.5 * sweep.start, number)
    shown = np.abs(sweep.timesteps - wanted[:, None]).argmin(1)
    draw = _painter(sweep.target)
    rows = figure.subplots(2, number + 1)
    for row, maps, name in zip(rows, (sweep.noisy, sweep.denoised), ('noisy', 'denoised')):
        row[0].set_ylabel(name, fontsize=11)
        for axes, index in zip(row, shown):
            draw(axes, maps[index, 0])
    for axes, index in zip(rows[0], shown):
        axes.set_title(f't = {sweep.timesteps[index]}', fontsize=10)
    draw(rows[0, -1], sweep.target[0])
    rows[0, -1].set_title('teacher', fontsize=10)
    for axes in rows.ravel():
        axes.set(xticks=[], yticks=[])
    rows[1, -1].set_axis_off()


def _painter(target: np.ndarray) -> Callable[[Axes, np.ndarray], None]:
    """Draws features of one image on the scale of the target, as colours or bars."""
    if target.shape[2:] != (1, 1):
        colouring = Colouring(target)
        return lambda axes, feature: axes.imshow(colouring(feature), interpolation='nearest')
    channels = shown_channels(target[0])
    limits = limits_of(2 * target[0])
    return lambda axes, feature: draw_bars(axes, feature[channels], limits, COLOURS[0])
