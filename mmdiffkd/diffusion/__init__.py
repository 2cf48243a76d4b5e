"""DiffKD itself. Needs torch alone: no host library, runner, registry or config."""

from .autoencoder import LinearAutoencoder
from .ddim import (
    DDIMStep,
    add_noise,
    ddim_denoise,
    ddim_steps,
    ddim_steps_at,
    linear_alphas_cumprod,
    sampling_timesteps,
)
from .denoiser import Denoiser
from .head import AlignHead, DiffKDHead, HeadOutput
from .noise_adapter import NoiseAdapter

__all__ = [
    'AlignHead',
    'DDIMStep',
    'Denoiser',
    'DiffKDHead',
    'HeadOutput',
    'LinearAutoencoder',
    'NoiseAdapter',
    'add_noise',
    'ddim_denoise',
    'ddim_steps',
    'ddim_steps_at',
    'linear_alphas_cumprod',
    'sampling_timesteps',
]
