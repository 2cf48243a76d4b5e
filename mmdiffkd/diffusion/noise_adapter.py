"""The noise adapter of DiffKD: how noisy is this student feature?"""

import torch.nn.functional as F
from torch import Tensor, nn

from mmdiffkd.diffusion.layers import Bottleneck, conv_bn, conv_bn_relu
from mmdiffkd.diffusion.precision import at_least_float32


class NoiseAdapter(nn.Module):
    """Learns, per image, the share gamma of the student feature to keep.

    The rest, ``1 - gamma``, is replaced by fresh Gaussian noise so that the sum matches the noise
    level at which denoising starts (section 3.4 of DiffKD).

    Args:
        channels: Width D of the features.
        kernel_size: 3 for feature maps; 1 for vectors held as 1x1 maps.
        reduction: Divisor of ``channels`` that gives the inner width of the bottleneck. It has no
            effect with ``kernel_size=1``.
    """

    def __init__(self, channels: int, kernel_size: int = 3, reduction: int = 8) -> None:
        super().__init__()
        if kernel_size == 3:
            self.trunk = nn.Sequential(Bottleneck(channels, reduction), nn.AdaptiveAvgPool2d(1))
        else:
            self.trunk = nn.Sequential(
                *conv_bn_relu(channels, 2 * channels), *conv_bn(2 * channels, channels)
            )
        self.classifier = nn.Linear(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Estimate gamma.

        Args:
            x: Aligned student features, (N, D, H, W); (N, D, 1, 1) with ``kernel_size=1``.

        Returns:
            gamma, one number in (0, 1) per image, shape (N,), at least float32.
        """
        logits = self.classifier(self.trunk(x).flatten(1))
        return F.softmax(at_least_float32(logits), dim=1)[:, 0]
