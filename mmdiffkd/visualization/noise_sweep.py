"""Does denoising work? Teacher features plus growing noise, and what the noise predictor makes of
them."""

import copy
from typing import List, NamedTuple, Optional, Sequence

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

from .canvas import GREY, new_figure, ordered_colours, tidy
from .colouring import Colouring


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
        sweeps: One per level of a pair, of the same timesteps. Pictured is the first, or the first
            that is a map.
        num_pictures: Noise levels that are pictured.
    """
    figure = new_figure(10.6, 7, layout='constrained')
    figure.suptitle(title, fontsize=14, weight='bold', x=0.01, ha='left')
    above, below = figure.subfigures(2, 1, height_ratios=(4, 3))
    _draw_errors(above, sweeps)
    _draw_maps(below, sweeps[0], num_pictures)
    return figure


def _draw_errors(figure: SubFigure, sweeps: Sequence[NoiseSweep]) -> None:
    prediction, feature = figure.subplots(1, 2)
    colours = ordered_colours(len(sweeps))
    for number, (sweep, colour) in enumerate(zip(sweeps, colours)):
        label = f'level {number}'
        prediction.plot(sweep.timesteps, sweep.prediction_error, color=colour, label=label)
        before, after = map(sweep.relative_error, (sweep.noisy, sweep.denoised))
        feature.plot(sweep.timesteps, before, '--', color=colour)
        feature.plot(sweep.timesteps, after, color=colour)
    _caption(prediction, 'Is the noise found?', 'mean squared error of the predicted noise')
    _caption(feature, 'Does denoising bring the feature back?', "error / variance of teacher's feature")
    # Far beyond where it is used denoising diverges, which would leave nothing else to be seen.
    start, highest = sweeps[0].start, max(sweep.relative_error(sweep.noisy).max() for sweep in sweeps)
    feature.set_ylim(0, 1.2 * highest)
    prediction.set_ylim(bottom=0)
    for axes, text in ((prediction, 'no noise predicted'), (feature, 'the mean feature')):
        axes.axhline(1, color=GREY, linestyle=':')
        axes.text(len(sweeps[0].timesteps) and sweeps[0].timesteps[-1], 1.0, text, fontsize=8, color=GREY, ha='right', va='bottom')
        axes.axvline(start, color=GREY, linewidth=0.8)
    prediction.legend(fontsize=9, frameon=False)
    handles = [
        Line2D([], [], color='black', linestyle='--', label='noisy'),
        Line2D([], [], color='black', label='denoised'),
        Line2D([], [], color=GREY, linewidth=0.8, label=f'student features start at t = {start}'),
    ]
    feature.legend(handles=handles, fontsize=9, frameon=False)


def _caption(axes: Axes, question: str, quantity: str) -> None:
    tidy(axes)
    axes.set_title(question, fontsize=11, loc='left')
    axes.set_xlabel('noise level t', fontsize=9)
    axes.set_ylabel(quantity, fontsize=9)


def _draw_maps(figure: SubFigure, sweep: NoiseSweep, number: int) -> None:
    wanted = np.linspace(0, 1.5 * sweep.start, number)
    shown = np.abs(sweep.timesteps - wanted[:, None]).argmin(1)
    colouring = Colouring(sweep.target)
    rows = figure.subplots(2, number + 1)
    for row, maps, name in zip(rows, (sweep.noisy, sweep.denoised), ('noisy', 'denoised')):
        row[0].set_ylabel(name, fontsize=11)
        for axes, index in zip(row, shown):
            axes.imshow(colouring(maps[index, 0]), interpolation='nearest')
    for axes, index in zip(rows[0], shown):
        axes.set_title(f't = {sweep.timesteps[index]}', fontsize=10)
    rows[0, -1].imshow(colouring(sweep.target[0]), interpolation='nearest')
    rows[0, -1].set_title('teacher', fontsize=10)
    for axes in rows.ravel():
        axes.set(xticks=[], yticks=[])
    rows[1, -1].set_axis_off()
