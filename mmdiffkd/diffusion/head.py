"""Heads: what turns a student and a teacher feature into the two tensors that are compared."""

from functools import partial
from typing import Any, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdiffkd.diffusion.autoencoder import LinearAutoencoder
from mmdiffkd.diffusion.ddim import (
    add_noise,
    ddim_denoise,
    ddim_steps,
    linear_alphas_cumprod,
    sampling_timesteps,
)
from mmdiffkd.diffusion.denoiser import Denoiser
from mmdiffkd.diffusion.layers import conv_bn
from mmdiffkd.diffusion.noise_adapter import NoiseAdapter
from mmdiffkd.diffusion.output import HeadOutput, check_maps
from mmdiffkd.diffusion.precision import at_least_float32
from mmdiffkd.diffusion.recompute import recomputed
from mmdiffkd.errors import check_numbers as check


class AlignHead(nn.Module):
    """Projects the student's channels to the teacher's and nothing more: the plain baseline.

    Args:
        student_channels: Number Cs of channels of the student map.
        teacher_channels: Number Ct of channels of the teacher map.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.align = nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, student_feat: Tensor, teacher_feat: Tensor) -> HeadOutput:
        """Project (N, Cs, H, W) to the shape (N, Ct, H, W) of the teacher feature."""
        check_maps(student_feat, teacher_feat)
        aligned = at_least_float32(self.align(student_feat))
        return HeadOutput(aligned, at_least_float32(teacher_feat).detach(), aligned.detach())


class DiffKDHead(nn.Module):
    """Denoises a student feature with a diffusion model of the teacher's feature.

    Knowledge Diffusion for Distillation, NeurIPS 2023. The student feature, projected to the
    width D, is mixed with noise by the noise adapter, denoised in ``num_steps`` DDIM steps and
    projected. The noise predictor learns on the teacher's feature in the same forward. The output
    has the losses ``diff`` (noise predictor) and, with an autoencoder, ``ae``, and the statistic
    ``gamma``, the share of the student feature that is kept, (N,).

    Args:
        student_channels: Number Cs of channels of the student map.
        teacher_channels: Number Ct of channels of the teacher map.
        kernel_size: 3 for feature maps, 1 for vectors held as 1x1 maps (classifier logits).
        ae_channels: Width D of a linear autoencoder in whose latent space the diffusion works;
            None diffuses in the teacher's own width, D = Ct.
        num_steps: Number K of denoising steps.
        num_train_timesteps: Length T of the diffusion chain.
        reduction: Reduction of the noise predictor's bottlenecks.
        adapter_reduction: Reduction of the noise adapter's bottleneck.
        diffusion_weight: Weight of the noise predictor's loss (lambda 1 of the paper).
        ae_weight: Weight of the autoencoder's loss (lambda 2 of the paper).
        checkpoint: Whether the activations of noise adapter and noise predictor are computed again
            in the backward pass instead of being kept. Results stay the same.
        compile: Whether the noise predictor runs through ``torch.compile``.
        sync_bn: Whether the batch norms always use the statistics of all GPUs; otherwise they
            follow the ``sync_bn`` of the run.
        gamma: Fixed share of the student feature that is kept, from 0 to 1, in place of the noise
            adapter; with 1 no noise is added.
        detach_denoiser: Whether the noise predictor learns from its own loss alone: the distance
            passes through it with its weights held fixed.
        sqrt_mixing: Whether student feature and noise are mixed by the square roots of gamma and
            1 - gamma, as diffusion models mix, and not by gamma and 1 - gamma as published.

    Raises:
        ValueError: If ``kernel_size``, ``num_steps``, ``gamma``, a weight or a width cannot work.
    """

    # The reference sizes its timestep embedding for chains of up to 1280 steps.
    MIN_EMBEDDINGS = 1280

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
        checkpoint: bool = False,
        compile: bool = False,
        sync_bn: bool = False,
        gamma: Optional[float] = None,
        detach_denoiser: bool = False,
        sqrt_mixing: bool = False,
    ) -> None:
        super().__init__()
        if gamma is not None and not (isinstance(gamma, (int, float)) and 0 <= gamma <= 1):
            raise ValueError(f'gamma must be a number from 0 to 1, got {gamma!r}')
        if kernel_size not in (1, 3):
            raise ValueError(f'kernel_size must be 3 (maps) or 1 (vectors), got {kernel_size!r}')
        width = teacher_channels if ae_channels is None else ae_channels
        check(0, float, diffusion_weight=diffusion_weight, ae_weight=ae_weight)
        check(1, int, ae_channels=width)
        check(2, int, num_train_timesteps=num_train_timesteps)
        check(1, int, num_steps=num_steps, reduction=reduction, adapter_reduction=adapter_reduction)
        self.diffusion_weight, self.ae_weight = diffusion_weight, ae_weight
        self.checkpoint, self.kernel_size = checkpoint, kernel_size
        self.gamma, self.sqrt_mixing, self.detach_denoiser = gamma, sqrt_mixing, detach_denoiser

        self.autoencoder = (
            None if ae_channels is None else LinearAutoencoder(teacher_channels, ae_channels)
        )
        self.align = nn.Conv2d(student_channels, width, 1)
        self.noise_adapter = (
            NoiseAdapter(width, kernel_size, adapter_reduction) if gamma is None else None
        )
        self.denoiser = Denoiser(
            width, kernel_size, reduction, max(self.MIN_EMBEDDINGS, num_train_timesteps), compile
        )
        self.projection = conv_bn(width, width)
        if sync_bn:
            nn.SyncBatchNorm.convert_sync_batchnorm(self)

        alphas_cumprod = linear_alphas_cumprod(num_train_timesteps)
        self.steps = ddim_steps(alphas_cumprod, sampling_timesteps(num_train_timesteps, num_steps))
        # The square roots are taken before rounding to float32: 1 - alphas_cumprod is 1e-4 at
        # t = 0 and would lose four digits. The tables follow from the arguments, so they stay out
        # of the state dict.
        self.register_buffer('signal_scale', alphas_cumprod.sqrt().float(), persistent=False)
        self.register_buffer('noise_scale', (1 - alphas_cumprod).sqrt().float(), persistent=False)

    def forward(
        self,
        student_feat: Tensor,
        teacher_feat: Tensor,
        generator: Optional[torch.Generator] = None,
        *,
        student_noise: Optional[Tensor] = None,
        diffusion_noise: Optional[Tensor] = None,
        timesteps: Optional[Tensor] = None,
    ) -> HeadOutput:
        """Refine the student feature and train the diffusion model on the teacher's.

        Args:
            student_feat: Student feature, (N, Cs, H, W).
            teacher_feat: Teacher feature, (N, Ct, H, W), of the same N, H and W.
            generator: Source of noise and timesteps; None is the device's default generator.
            student_noise: Standard normal noise (N, D, H, W) to mix into the student feature,
                instead of a fresh draw.
            diffusion_noise: Standard normal noise (N, D, H, W) that the noise predictor has to
                find, instead of a fresh draw.
            timesteps: Integers in ``0..T-1``, (N,), instead of a fresh draw.

        Returns:
            The tensors to compare, of width D, the losses of the head and ``gamma``.
        """
        check_maps(student_feat, teacher_feat)
        if self.kernel_size == 1 and teacher_feat.shape[2:] != (1, 1):
            what = 'kernel_size=1 is for vectors (1x1 maps), use 3 for maps of'
            raise ValueError(f'{what} {teacher_feat.shape[2]}x{teacher_feat.shape[3]}')
        teacher_feat = self._in_fast_format(teacher_feat.detach())
        ae = {}
        if self.autoencoder is None:
            target = at_least_float32(teacher_feat)
        else:
            latent, reconstruction = self.autoencoder(teacher_feat)
            error = F.mse_loss(at_least_float32(reconstruction), at_least_float32(teacher_feat))
            ae = dict(ae=self.ae_weight * error)
            # The autoencoder learns from its reconstruction alone, never from what is compared.
            target = at_least_float32(latent).detach()
        aligned = self._in_fast_format(at_least_float32(self.align(student_feat)))
        refined, gamma = self.refine(aligned, generator, student_noise)
        diff = self.diffusion_loss(target, generator, diffusion_noise, timesteps)
        return HeadOutput(
            refined, target, aligned.detach(), dict(diff=diff, **ae), dict(gamma=gamma.detach())
        )

    def refine(
        self,
        aligned: Tensor,
        generator: Optional[torch.Generator] = None,
        noise: Optional[Tensor] = None,
    ) -> Tuple[Tensor, Tensor]:
        """Add the noise that the adapter asks for, denoise, project.

        Args:
            aligned: Student feature in the diffusion's width, (N, D, H, W).
            generator: Source of the noise; None is the device's default generator.
            noise: Standard normal noise of the same shape, instead of a fresh draw.

        Returns:
            The refined feature, (N, D, H, W), and gamma, (N,).
        """
        noise = normal_like(aligned, generator) if noise is None else noise
        gamma = self._gamma(aligned)
        if self.sqrt_mixing:
            noisy = add_noise(aligned, noise, gamma.sqrt(), (1 - gamma).sqrt())
        else:
            # gamma and 1 - gamma themselves, not their square roots: so does the reference.
            noisy = torch.lerp(noise, aligned, gamma[:, None, None, None])
        predict = partial(self.predict_noise, fixed=self.detach_denoiser)
        denoised = ddim_denoise(predict, noisy, self.steps)
        return at_least_float32(self.projection(denoised)), gamma

    def predict_noise(self, x: Tensor, timesteps: Any, fixed: bool = False) -> Tensor:
        """Predict the noise in (N, D, H, W) at one integer timestep or at N of them.

        ``fixed`` is that of the noise predictor.
        """
        return self._run(self.denoiser, x, timesteps, fixed)

    def diffusion_loss(
        self,
        target: Tensor,
        generator: Optional[torch.Generator] = None,
        noise: Optional[Tensor] = None,
        timesteps: Optional[Tensor] = None,
    ) -> Tensor:
        """Weighted mean squared error of the predicted noise in the diffused teacher feature.

        Args:
            target: Teacher feature in the diffusion's width, (N, D, H, W), detached.
            generator: Source of noise and timesteps; None is the device's default generator.
            noise: Standard normal noise of the same shape, instead of a fresh draw.
            timesteps: Integers in ``0..T-1``, (N,), instead of a fresh draw.
        """
        if timesteps is None:
            timesteps = torch.randint(
                len(self.signal_scale), (len(target),), generator=generator, device=target.device
            )
        noise = normal_like(target, generator) if noise is None else noise
        diffused = add_noise(
            target, noise, self.signal_scale[timesteps], self.noise_scale[timesteps]
        )
        error = at_least_float32(self.predict_noise(diffused, timesteps)) - noise
        # The backward pass needs the difference only; mse_loss would keep both of its arguments.
        return self.diffusion_weight * error.square().mean()

    def _gamma(self, aligned: Tensor) -> Tensor:
        """Gamma of each student feature in (N, D, H, W): (N,)."""
        if self.noise_adapter is None:
            return aligned.new_full((len(aligned),), self.gamma)
        gamma = self._run(self.noise_adapter, aligned)
        # A root has no finite slope at 0, which a softmax of float32 reaches.
        return gamma.clamp(1e-6, 1 - 1e-6) if self.sqrt_mixing else gamma

    def _run(self, module: nn.Module, *inputs: Any) -> Tensor:
        return recomputed(module, *inputs) if self.checkpoint else module(*inputs)

    def _in_fast_format(self, x: Tensor) -> Tensor:
        """``x`` in channels-last memory format, in which 1x1 convolutions are matrix products."""
        # A batch norm of another library in the place of torch's (``sync_bn='mmcv'``) may read
        # memory as (N, C, H, W).
        is_torch = isinstance(self.projection[1], (nn.BatchNorm2d, nn.SyncBatchNorm))
        memory_format = torch.channels_last if is_torch else torch.contiguous_format
        return x.contiguous(memory_format=memory_format)


def normal_like(x: Tensor, generator: Optional[torch.Generator]) -> Tensor:
    """Standard normal noise of the shape, dtype, device and memory format of ``x``."""
    # Drawn in the default format: the noise does not depend on the format of the map, and a CPU
    # draws it about eight times faster than into a channels-last tensor.
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return torch.empty_like(x).copy_(noise)
