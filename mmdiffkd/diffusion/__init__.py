"""DiffKD itself. Needs torch alone: no host library, runner, registry or config."""

from mmdiffkd.diffusion.autoencoder import LinearAutoencoder
from mmdiffkd.diffusion.ddim import (
    DDIMStep,
    add_noise,
    ddim_denoise,
    ddim_steps,
    linear_alphas_cumprod,
    sampling_timesteps,
)
from mmdiffkd.diffusion.denoiser import Denoiser
from mmdiffkd.diffusion.head import AlignHead, DiffKDHead
from mmdiffkd.diffusion.noise_adapter import NoiseAdapter
from mmdiffkd.diffusion.output import HeadOutput
