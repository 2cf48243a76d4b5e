"""The noise predictor of DiffKD."""

from typing import Union

from torch import Tensor, nn

from .layers import Bottleneck, conv_bn, conv_bn_relu


class Denoiser(nn.Module):
    """Predicts the noise in a diffused teacher feature (reference implementation of DiffKD).

    Args:
        channels: Width D of the features.
        kernel_size: 3 for feature maps (two bottlenecks), 1 for vectors held as 1x1 maps, such as
            a classifier's logits (a two-block MLP of width 4 D).
        reduction: Of the bottlenecks; unused with ``kernel_size=1``.
        num_embeddings: Rows of the timestep embedding, at least the number of timesteps.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        reduction: int = 4,
        num_embeddings: int = 1280,
    ) -> None:
        super().__init__()
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
                nn.Conv2d(hidden, channels, 1),
            )

    def forward(self, x: Tensor, timesteps: Union[Tensor, int]) -> Tensor:
        """Predict the noise in ``x``.

        Args:
            x: Noisy features, (N, D, H, W).
            timesteps: Integer timesteps, (N,), or one integer for the whole batch.

        Returns:
            The predicted noise, (N, D, H, W).
        """
        if isinstance(timesteps, int):
            # Reads one row; an index tensor would be built and copied to the device every step.
            embedding = self.time_embedding.weight[timesteps]
        else:
            embedding = self.time_embedding(timesteps)
        return self.network(x + embedding[..., None, None])
