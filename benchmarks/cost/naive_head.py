"""The diffusion head the naive way, to compare costs with. No training uses it.

It computes what :class:`mmdiffkd.diffusion.DiffKDHead` computes, as one would write it first and
as the reference implementation does: noise schedule and sampling steps are those of a general
diffusion library, modules are torch's own, one after the other.
"""

from typing import Optional

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor, nn

from mmdiffkd.diffusion import DiffKDHead, HeadOutput
from mmdiffkd.diffusion.precision import at_least_float32


def conv_bn(in_channels: int, out_channels: int, kernel_size: int = 1) -> nn.Sequential:
    """Convolution that keeps the map's size, then batch norm."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2),
        nn.BatchNorm2d(out_channels),
    )


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int = 1) -> nn.Sequential:
    """:func:`conv_bn` followed by ReLU."""
    return nn.Sequential(*conv_bn(in_channels, out_channels, kernel_size), nn.ReLU(inplace=True))


class NaiveBottleneck(nn.Module):
    """``x`` plus what a block of three convolutions makes of it; any (N, channels, H, W)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.block = nn.Sequential(
            *conv_bn_relu(channels, hidden),
            *conv_bn_relu(hidden, hidden, kernel_size=3),
            *conv_bn(hidden, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's output."""
        return x + self.block(x)


class NaiveDenoiser(nn.Module):
    """Noise predictor, ``(N, D, H, W), (N,) -> (N, D, H, W)``."""

    def __init__(self, channels: int, kernel_size: int, reduction: int, num_embeddings: int):
        super().__init__()
        self.time_embedding = nn.Embedding(num_embeddings, channels)
        hidden = 4 * channels
        if kernel_size == 3:
            self.network = nn.Sequential(
                NaiveBottleneck(channels, reduction),
                NaiveBottleneck(channels, reduction),
                *conv_bn(channels, channels),
            )
        else:
            self.network = nn.Sequential(
                *conv_bn_relu(channels, hidden),
                *conv_bn(hidden, channels),
                *conv_bn_relu(channels, hidden),
                nn.Conv2d(hidden, channels, 1),
            )

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Predict the noise in ``x``."""
        return self.network(x + self.time_embedding(timesteps)[..., None, None])


class NaiveNoiseAdapter(nn.Module):
    """``(N, D, H, W) -> gamma (N,)``."""

    def __init__(self, channels: int, kernel_size: int, reduction: int):
        super().__init__()
        if kernel_size == 3:
            self.trunk = nn.Sequential(
                NaiveBottleneck(channels, reduction), nn.AdaptiveAvgPool2d(1)
            )
        else:
            self.trunk = nn.Sequential(
                *conv_bn_relu(channels, 2 * channels), *conv_bn(2 * channels, channels)
            )
        self.classifier = nn.Linear(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Estimate gamma."""
        logits = self.classifier(self.trunk(x).flatten(1))
        return F.softmax(at_least_float32(logits), dim=1)[:, 0]


class NaiveAutoencoder(nn.Module):
    """``(N, Ct, H, W) -> latent (N, D, H, W), reconstruction (N, Ct, H, W)``."""

    def __init__(self, channels: int, latent_channels: int) -> None:
        super().__init__()
        self.encoder = conv_bn(channels, latent_channels)
        self.decoder = nn.Conv2d(latent_channels, channels, 1)

    def forward(self, x: Tensor):
        """Encode and reconstruct."""
        latent = self.encoder(x)
        return latent, self.decoder(latent)


class NaiveDiffKDHead(nn.Module):
    """What :class:`DiffKDHead` computes; same arguments, same state dict."""

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        kernel_size: int = 3,
        ae_channels: Optional[int] = None,
        num_steps: int = 5,
        num_train_timesteps: int = 1000,
        reduction: int = 4,
        adapter_reduction: int = 8,
        diffusion_weight: float = 1.0,
        ae_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.diffusion_weight = diffusion_weight
        self.ae_weight = ae_weight
        self.num_steps = num_steps
        width = ae_channels or teacher_channels
        self.autoencoder = NaiveAutoencoder(teacher_channels, width) if ae_channels else None
        self.align = nn.Conv2d(student_channels, width, 1)
        self.noise_adapter = NaiveNoiseAdapter(width, kernel_size, adapter_reduction)
        num_embeddings = max(DiffKDHead.MIN_EMBEDDINGS, num_train_timesteps)
        self.denoiser = NaiveDenoiser(width, kernel_size, reduction, num_embeddings)
        self.projection = conv_bn(width, width)
        self.scheduler = DDIMScheduler(
            num_train_timesteps=num_train_timesteps,
            beta_start=1e-4,
            beta_end=0.02,
            beta_schedule='linear',
            clip_sample=False,
        )

    def forward(
        self,
        student_feat: Tensor,
        teacher_feat: Tensor,
        *,
        student_noise: Optional[Tensor] = None,
        diffusion_noise: Optional[Tensor] = None,
        timesteps: Optional[Tensor] = None,
    ) -> HeadOutput:
        """Same as :meth:`DiffKDHead.forward`."""
        target, losses = at_least_float32(teacher_feat), {}
        if self.autoencoder is not None:
            latent, reconstruction = self.autoencoder(teacher_feat)
            error = F.mse_loss(at_least_float32(reconstruction), target)
            losses['ae'] = self.ae_weight * error
            target = at_least_float32(latent).detach()
        aligned = at_least_float32(self.align(student_feat))
        gamma = self.noise_adapter(aligned)
        keep = gamma[:, None, None, None]
        noise = torch.randn_like(aligned) if student_noise is None else student_noise
        noisy = keep * aligned + (1 - keep) * noise
        refined = at_least_float32(self.projection(self.denoise(noisy)))
        losses['diff'] = self.diffusion_loss(target, diffusion_noise, timesteps)
        return HeadOutput(
            refined, target, aligned.detach(), losses=losses, stats=dict(gamma=gamma.detach())
        )

    def denoise(self, x: Tensor) -> Tensor:
        """Step from t = 400 of 1000 down to 0, (N, D, H, W) to the same."""
        # Twice the steps over the whole chain, of which those with the least noise are taken.
        self.scheduler.set_timesteps(2 * self.num_steps, device=x.device)
        for t in self.scheduler.timesteps[self.num_steps :]:
            noise = at_least_float32(self.denoiser(x, t.expand(len(x))))
            x = self.scheduler.step(noise, t, x).prev_sample
        return x

    def diffusion_loss(
        self, target: Tensor, noise: Optional[Tensor] = None, timesteps: Optional[Tensor] = None
    ) -> Tensor:
        """Weighted error of the noise found in the diffused ``target`` (N, D, H, W)."""
        if timesteps is None:
            timesteps = torch.randint(
                self.scheduler.config.num_train_timesteps, (len(target),), device=target.device
            )
        if noise is None:
            noise = torch.randn_like(target)
        diffused = self.scheduler.add_noise(target, noise, timesteps)
        predicted = at_least_float32(self.denoiser(diffused, timesteps))
        return self.diffusion_weight * F.mse_loss(predicted, noise)
