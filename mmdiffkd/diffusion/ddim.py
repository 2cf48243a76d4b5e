"""Noise schedule and DDIM sampling as pure functions.

Symbols follow DDPM (Ho et al., 2020) and DDIM (Song et al., 2021): ``t`` is an integer timestep
in ``0..T-1`` that grows with the noise, ``alphas_cumprod[t]`` is the share of signal power left
at ``t``, and ``x_t = sqrt(alphas_cumprod[t]) * x_0 + sqrt(1 - alphas_cumprod[t]) * noise``.
"""

from typing import Callable, List, NamedTuple, Sequence

import torch
from torch import Tensor


class DDIMStep(NamedTuple):
    """One deterministic denoising step, ``x <- x_scale * x + noise_scale * noise_predicted``.

    Attributes:
        timestep: Integer timestep ``t`` that the noise predictor is asked about.
        x_scale: Factor of the current sample.
        noise_scale: Factor of the predicted noise.
    """

    timestep: int
    x_scale: float
    noise_scale: float


def linear_alphas_cumprod(
    num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> Tensor:
    """Cumulative signal power of the linear-beta schedule (DDPM, section 4), (T,), float64.

    Args:
        num_train_timesteps: Length T of the diffusion chain.
        beta_start: Noise variance added at ``t = 0``.
        beta_end: Noise variance added at ``t = T - 1``.
    """
    betas = torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float64)
    return torch.cumprod(1.0 - betas, dim=0)


def sampling_timesteps(num_train_timesteps: int, num_steps: int) -> List[int]:
    """The K descending timesteps of denoising: T=1000, K=5 gives [400, 300, 200, 100, 0].

    The chain is cut into ``2 * num_steps`` strides, and the denoising starts at the K-th lowest of
    their timesteps (t = 400 of 1000), because a student's feature is noisy but never pure noise
    (reference implementation of DiffKD).

    Args:
        num_train_timesteps: Length T of the chain.
        num_steps: Number K of denoising steps, at least 1 and at most T / 2.
    """
    if not 1 <= num_steps <= num_train_timesteps // 2:
        raise ValueError(
            f'num_steps must be between 1 and num_train_timesteps / 2 = '
            f'{num_train_timesteps // 2}, got {num_steps}'
        )
    stride = num_train_timesteps // (2 * num_steps)
    return [stride * index for index in reversed(range(num_steps))]


def ddim_steps(alphas_cumprod: Tensor, timesteps: Sequence[int]) -> List[DDIMStep]:
    """Coefficients of DDIM (eta = 0) for each sampling step.

    Equation 12 of DDIM with the predicted ``x_0`` substituted is linear in the sample and the
    predicted noise. With ``a = alphas_cumprod[t]`` and ``p`` the value at the next, cleaner
    timestep (1 after the last)::

        x_scale     = sqrt(p / a)
        noise_scale = sqrt(1 - p) - sqrt(p * (1 - a) / a)

    Args:
        alphas_cumprod: Signal power at each timestep, (T,), float64.
        timesteps: Descending timesteps at which the noise predictor is asked.
    """
    levels = [float(alphas_cumprod[t]) for t in timesteps]
    return [
        DDIMStep(t, (p / a) ** 0.5, (1 - p) ** 0.5 - (p * (1 - a) / a) ** 0.5)
        for t, a, p in zip(timesteps, levels, [*levels[1:], 1.0])
    ]


def ddim_denoise(
    noise_predictor: Callable[[Tensor, int], Tensor], x: Tensor, steps: Sequence[DDIMStep]
) -> Tensor:
    """Denoise ``x`` with all ``steps``; gradients flow through every one of them.

    Args:
        noise_predictor: Function ``(x, t) -> noise`` of (N, D, H, W) and an integer timestep.
        x: Noisy sample at the first timestep, (N, D, H, W). It keeps its own precision, whatever
            that of the predictor's output under autocast.
        steps: Steps of :func:`ddim_steps`.
    """
    for step in steps:
        noise = noise_predictor(x, step.timestep)
        x = (step.x_scale * x).add_(noise, alpha=step.noise_scale)
    return x


def add_noise(clean: Tensor, noise: Tensor, signal_scale: Tensor, noise_scale: Tensor) -> Tensor:
    """Diffuse ``clean`` to the noise level of each image (DDPM, equation 4).

    Args:
        clean: Clean features, (N, D, H, W).
        noise: Standard normal noise of the same shape.
        signal_scale: ``sqrt(alphas_cumprod[t])`` of each image, (N,).
        noise_scale: ``sqrt(1 - alphas_cumprod[t])`` of each image, (N,).
    """
    per_image = (-1, *([1] * (clean.ndim - 1)))
    signal = signal_scale.reshape(per_image) * clean
    return torch.addcmul(signal, noise_scale.reshape(per_image), noise)
