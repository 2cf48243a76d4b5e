"""The linear autoencoder of DiffKD: diffusion in fewer channels."""

from typing import Tuple

from torch import Tensor, nn

from mmdiffkd.diffusion.layers import conv, conv_bn


class LinearAutoencoder(nn.Module):
    """1x1 encoder with batch norm, 1x1 decoder, no activation (section 3.3 of DiffKD).

    Args:
        channels: Width of the teacher feature.
        latent_channels: Width in which the diffusion works.
    """

    def __init__(self, channels: int, latent_channels: int) -> None:
        super().__init__()
        self.encoder = conv_bn(channels, latent_channels)
        self.decoder = conv(latent_channels, channels)

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Encode and reconstruct.

        Args:
            x: Teacher feature, (N, channels, H, W).

        Returns:
            The latent (N, latent_channels, H, W) and the reconstruction, shape of ``x``.
        """
        latent = self.encoder(x)
        return latent, self.decoder(latent)
