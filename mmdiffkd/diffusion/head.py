"""Heads: what turns a student and a teacher feature into the two tensors that are compared."""

import math
from typing import Any, Callable, Optional, Tuple

import torch
from torch import Tensor, nn

from mmdiffkd.diffusion.autoencoder import LinearAutoencoder
from mmdiffkd.diffusion.ddim import add_noise, ddim_denoise, ddim_steps, linear_alphas_cumprod
from mmdiffkd.diffusion.denoiser import Denoiser
from mmdiffkd.diffusion.layers import conv_bn
from mmdiffkd.diffusion.noise_adapter import NoiseAdapter
from mmdiffkd.diffusion.output import HeadOutput
from mmdiffkd.diffusion.precision import at_least_float32
from mmdiffkd.diffusion.recompute import Recompute


class AlignHead(nn.Module):
    """Projects the student's channels to the teacher's and nothing more: the plain baseline.

    Args:
        student_channels: Channels Cs of the student map.
        teacher_channels: Channels Ct of the teacher map.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.align = nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, student_feat: Tensor, teacher_feat: Tensor) -> HeadOutput:
        """Project (N, Cs, H, W) to the shape (N, Ct, H, W) of the teacher feature."""
        aligned = at_least_float32(self.align(student_feat))
        target = at_least_float32(teacher_feat).detach()
        return HeadOutput(refined=aligned, target=target, aligned=aligned.detach())


class DiffKDHead(nn.Module):
    """Denoises a student feature with a diffusion model of the teacher's feature.

    Knowledge Diffusion for Distillation, NeurIPS 2023. The student feature, projected to the
    width D, is mixed with noise by the noise adapter, denoised in ``num_steps`` DDIM steps and
    projected. The noise predictor learns on the teacher's feature in the same forward.

    Args:
        student_channels: Channels Cs of the student map.
        teacher_channels: Channels Ct of the teacher map.
        kernel_size: 3 for feature maps, 1 for vectors held as 1x1 maps (classifier logits).
        ae_channels: Width D of a linear autoencoder in whose latent space the diffusion works;
            None diffuses in the teacher's own width, D = Ct.
        num_steps: Denoising steps K.
        num_train_timesteps: Length T of the diffusion chain.
        reduction: Of the noise predictor's bottlenecks.
        adapter_reduction: Of the noise adapter's bottleneck.
        diffusion_weight: Weight of the noise predictor's loss (lambda 1 of the paper).
        ae_weight: Weight of the autoencoder's loss (lambda 2).
        checkpoint: Compute the activations of noise adapter and noise predictor again in backward
            instead of keeping them: about a quarter of the memory for about a third more time.
            Results stay the same; see :class:`Recompute` for what hooks see.
        compile: Run the noise predictor through ``torch.compile``. The first steps take a while;
            heads of one width share the code, whatever the size of their maps.

    Raises:
        ValueError: If ``kernel_size``, ``num_steps``, a weight or a width cannot work.
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
    ) -> None:
        super().__init__()
        if kernel_size not in (1, 3):
            raise ValueError(
                f'kernel_size must be 3 (feature maps) or 1 (vectors), got {kernel_size!r}'
            )
        if ae_channels is not None and ae_channels < 1:
            raise ValueError(f'ae_channels must be a positive integer or None, got {ae_channels!r}')
        for name, value in (
            ('num_train_timesteps', num_train_timesteps),
            ('reduction', reduction),
            ('adapter_reduction', adapter_reduction),
        ):
            if value < 1:
                raise ValueError(f'{name} must be a positive integer, got {value!r}')
        for name, value in (('diffusion_weight', diffusion_weight), ('ae_weight', ae_weight)):
            if not 0 <= value < math.inf:
                raise ValueError(f'{name} must be a finite number from 0, got {value!r}')
        self.diffusion_weight = diffusion_weight
        self.ae_weight = ae_weight
        self.checkpoint = checkpoint

        width = teacher_channels if ae_channels is None else ae_channels
        self.autoencoder = (
            None if ae_channels is None else LinearAutoencoder(teacher_channels, ae_channels)
        )
        self.align = nn.Conv2d(student_channels, width, 1)
        self.noise_adapter = NoiseAdapter(width, kernel_size, adapter_reduction)
        self.denoiser = Denoiser(
            width, kernel_size, reduction, max(self.MIN_EMBEDDINGS, num_train_timesteps), compile
        )
        self.projection = conv_bn(width, width)

        alphas_cumprod = linear_alphas_cumprod(num_train_timesteps)
        self.steps = ddim_steps(alphas_cumprod, num_steps)
        sampled = torch.tensor([step.timestep for step in self.steps])
        self.register_buffer('sampling_timesteps', sampled, persistent=False)
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
            student_feat: (N, Cs, H, W).
            teacher_feat: (N, Ct, H, W), same N, H and W.
            generator: Source of noise and timesteps; None is the device's default generator.
            student_noise: Standard normal (N, D, H, W) mixed into the student feature, instead
                of a fresh draw.
            diffusion_noise: Standard normal (N, D, H, W) that the noise predictor has to find,
                instead of a fresh draw.
            timesteps: Integers in ``0..T-1``, (N,), instead of a fresh draw.

        Returns:
            A :class:`HeadOutput`.
        """
        # The diffusion works on channels-last maps, in which 1x1 convolutions are matrix products.
        teacher_feat = _channels_last(teacher_feat.detach())
        if self.autoencoder is None:
            latent, loss_ae = at_least_float32(teacher_feat), {}
        else:
            latent, loss = self._encode(teacher_feat)
            loss_ae = dict(ae=loss)
        # The autoencoder learns from its reconstruction alone, never from what is compared.
        target = latent.detach()

        aligned = _channels_last(at_least_float32(self.align(student_feat)))
        refined, gamma = self.refine(aligned, generator, student_noise)
        loss_diff = self.diffusion_loss(target, generator, diffusion_noise, timesteps)
        losses = dict(diff=loss_diff, **loss_ae)
        return HeadOutput(
            refined, target, aligned.detach(), losses=losses, stats=dict(gamma=gamma.detach())
        )

    def _encode(self, teacher_feat: Tensor):
        latent, reconstruction = self.autoencoder(teacher_feat)
        loss = _mean_square(at_least_float32(reconstruction) - at_least_float32(teacher_feat))
        return at_least_float32(latent), self.ae_weight * loss

    def refine(
        self,
        aligned: Tensor,
        generator: Optional[torch.Generator] = None,
        noise: Optional[Tensor] = None,
    ):
        """Add the noise that the adapter asks for, denoise, project.

        Args:
            aligned: Student feature in the diffusion's width, (N, D, H, W).
            generator: Source of the noise; None is the device's default generator.
            noise: Standard normal of the same shape, instead of a fresh draw.

        Returns:
            The refined feature, (N, D, H, W), and gamma, (N,).
        """
        if noise is None:
            noise = _normal_like(aligned, generator)
        noisy, gamma = self._runner(self.noise_adapter)(self._mix, aligned, noise)
        # One look-up for all steps.
        embeddings = self.denoiser.time_embedding(self.sampling_timesteps)
        embedding_of = dict(zip((step.timestep for step in self.steps), embeddings))
        run = self._runner(self.denoiser)

        def predict_noise(x: Tensor, t: int) -> Tensor:
            return run(lambda x, embedding: self.denoiser(x, t, embedding), x, embedding_of[t])

        denoised = ddim_denoise(predict_noise, noisy, self.steps)
        return at_least_float32(self.projection(denoised)), gamma

    def _runner(self, module: nn.Module) -> Callable[..., Any]:
        """Calls a function that runs ``module``; with ``checkpoint`` see :class:`Recompute`."""
        return Recompute(module) if self.checkpoint else lambda function, *inputs: function(*inputs)

    def _mix(self, aligned: Tensor, noise: Tensor) -> Tuple[Tensor, Tensor]:
        """Add the noise that the adapter asks for: the noisy feature, and gamma."""
        gamma = self.noise_adapter(aligned)
        keep = gamma[:, None, None, None]
        # gamma and 1 - gamma themselves, not their square roots: so does the reference.
        return torch.lerp(noise, aligned, keep), gamma

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
            noise: Standard normal of the same shape, instead of a fresh draw.
            timesteps: Integers in ``0..T-1``, (N,), instead of a fresh draw.
        """
        if timesteps is None:
            timesteps = torch.randint(
                len(self.signal_scale), (len(target),), generator=generator, device=target.device
            )
        if noise is None:
            noise = _normal_like(target, generator)
        diffused = add_noise(
            target, noise, self.signal_scale[timesteps], self.noise_scale[timesteps]
        )
        run = self._runner(self.denoiser)
        return run(self._prediction_error, diffused, timesteps, noise)

    def _prediction_error(self, diffused: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        error = at_least_float32(self.denoiser(diffused, timesteps)) - noise
        return self.diffusion_weight * _mean_square(error)


def _mean_square(error: Tensor) -> Tensor:
    """The mean of the squares, 0 of no elements."""
    # Backward needs the difference only; mse_loss would keep both of its arguments.
    return error.square().mean() if error.numel() else error.sum()


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _normal_like(x: Tensor, generator: Optional[torch.Generator]) -> Tensor:
    """Standard normal noise of the shape, dtype and device of ``x``, channels-last."""
    num, channels, height, width = x.shape
    shape = (num, height, width, channels)
    noise = torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)
    return noise.permute(0, 3, 1, 2)
