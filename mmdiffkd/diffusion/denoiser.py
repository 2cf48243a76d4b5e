"""The noise predictor of DiffKD."""

from functools import cache
from typing import Callable, Union

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mmdiffkd.diffusion.layers import Bottleneck, conv, conv_bn, conv_bn_relu


class Denoiser(nn.Module):
    """Predicts the noise in a diffused teacher feature (reference implementation of DiffKD).

    Args:
        channels: Number D of channels of the features.
        kernel_size: 3 for feature maps (two bottlenecks), 1 for vectors held as 1x1 maps, such as
            the logits of a classifier (a two-block MLP of width 4 D).
        reduction: Divisor of ``channels`` that gives the inner width of the bottlenecks. It has no
            effect with ``kernel_size=1``.
        num_embeddings: Number of timesteps that have an embedding, at least T.
        compile: Whether the network runs through ``torch.compile``.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        reduction: int = 4,
        num_embeddings: int = 1280,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.compile_network = compile
        self.time_embedding = nn.Embedding(num_embeddings, channels)
        if kernel_size == 3:
            self.network = nn.Sequential(
                Bottleneck(channels, reduction),
                Bottleneck(channels, reduction),
                *conv_bn(channels, channels),
            )
        else:
            hidden = 4 * channels
            self.network = nn.Sequential(
                *conv_bn_relu(channels, hidden),
                *conv_bn(hidden, channels),
                *conv_bn_relu(channels, hidden),
                conv(hidden, channels),
            )

    def forward(self, x: Tensor, timesteps: Union[Tensor, int], fixed: bool = False) -> Tensor:
        """Predict the noise in ``x``.

        Args:
            x: Noisy features, (N, D, H, W).
            timesteps: Integer timesteps, (N,), or one integer for the whole batch.
            fixed: Whether the parameters are constants: gradients reach ``x`` alone.

        Returns:
            The predicted noise, (N, D, H, W).
        """
        if fixed:
            constants = {name: value.detach() for name, value in self.named_parameters()}
            return functional_call(self, constants, (x, timesteps))
        # Indexing with an integer copies no index to the device.
        noisy = x + self.time_embedding.weight[timesteps][..., None, None]
        return compiled_call()(self.network, noisy) if self.compile_network else self.network(noisy)


@cache
def compiled_call() -> Callable[[nn.Module, Tensor], Tensor]:
    """The compiled function that calls a network, ``(network, x) -> network(x)``.

    All denoisers share it, so that those of one width share the compiled code, whatever the size of
    their maps; torch 2.14 compiles for each size again, because its backward of convolutions
    fixes it. After eight versions torch warns and runs further ones uncompiled
    (``torch._dynamo.config.recompile_limit``).
    """
    return torch.compile(lambda network, x: network(x), dynamic=True)
