"""The noise predictor of DiffKD."""

from functools import cache
from typing import Callable, Optional, Union

import torch
from torch import Tensor, nn

from mmdiffkd.diffusion.layers import Bottleneck, conv, conv_bn, conv_bn_relu


class Denoiser(nn.Module):
    """Predicts the noise in a diffused teacher feature (reference implementation of DiffKD).

    Args:
        channels: Width D of the features.
        kernel_size: 3 for feature maps (two bottlenecks), 1 for vectors held as 1x1 maps, such as
            a classifier's logits (a two-block MLP of width 4 D).
        reduction: Of the bottlenecks; unused with ``kernel_size=1``.
        num_embeddings: Rows of the timestep embedding, at least the number of timesteps.
        compile: Run through ``torch.compile``.
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
        self._compiled = compile
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

    def forward(
        self, x: Tensor, timesteps: Union[Tensor, int], embedding: Optional[Tensor] = None
    ) -> Tensor:
        """Predict the noise in ``x``.

        Args:
            x: Noisy features, (N, D, H, W).
            timesteps: Integer timesteps, (N,), or one integer for the whole batch.
            embedding: What ``time_embedding`` has for them, (N, D) or (D,), if it has been looked
                up. One look-up for several calls is cheaper: the gradient of each is as large as
                the whole table.

        Returns:
            The predicted noise, (N, D, H, W).
        """
        if embedding is None:
            # One row is read: a tensor of the integer would have to be copied to the device.
            table = self.time_embedding
            embedding = table.weight[timesteps] if isinstance(timesteps, int) else table(timesteps)
        noisy = x + embedding[..., None, None]
        # What torch compiles asserts strides that empty gradients do not have.
        compiled = self._compiled and len(x) > 0
        return _compiled_network()(self.network, noisy) if compiled else self.network(noisy)


@cache
def _compiled_network() -> Callable[[nn.Module, Tensor], Tensor]:
    """One function for all denoisers: those of one width share the compiled code.

    Height and width are dynamic from the start; a batch of one, a map one pixel wide and the first
    one that is not square are compiled for once. After eight such versions, those of other widths
    included, torch warns and runs what is new uncompiled (torch._dynamo.config.recompile_limit).
    """
    return torch.compile(lambda network, x: network(x), dynamic=True)
