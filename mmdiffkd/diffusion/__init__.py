"""DiffKD itself. Needs torch alone: no host library, runner, registry or config."""

from mmdiffkd.diffusion.autoencoder import LinearAutoencoder
from mmdiffkd.diffusion.ddim import (
    DDIMStep,
    add_noise,
    ddim_denoise,
    ddim_steps,
    ddim_steps_at,
    linear_alphas_cumprod,
    sampling_timesteps,
)
from mmdiffkd.diffusion.denoiser import Denoiser
from mmdiffkd.diffusion.head import AlignHead, DiffKDHead, HeadOutput
from mmdiffkd.diffusion.noise_adapter import NoiseAdapter

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
