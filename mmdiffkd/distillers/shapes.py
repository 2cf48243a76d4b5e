"""Bring captured features to the one shape that heads and losses work on, (N, C, H, W)."""

from typing import List, Sequence, Tuple

import torch.nn.functional as F
from torch import Tensor

# Class token, and DeiT's distillation token.
_MAX_EXTRA_TOKENS = 2


def token_grid(num_tokens: int, image_size: Tuple[int, int]) -> Tuple[int, int, int]:
    """The patch grid behind a sequence of tokens.

    Args:
        num_tokens: Length of the sequence, with up to two class tokens.
        image_size: Height and width of the model's input in pixels.

    Returns:
        Number of leading class tokens, and height and width of the grid.

    Raises:
        ValueError: If no square patch size explains the number of tokens.
    """
    height, width = image_size
    patches = range(1, max(height, width) + 1)
    # Patches that divide the image first: with few tokens, an odd patch size and no class token
    # can explain the same number.
    dividing = [patch for patch in patches if height % patch == width % patch == 0]
    for candidates in (dividing, patches):
        for extra in range(_MAX_EXTRA_TOKENS + 1):
            for patch in candidates:
                cropped = height // patch, width // patch
                padded = -(-height // patch), -(-width // patch)
                for grid in (cropped, padded):
                    if grid[0] * grid[1] == num_tokens - extra:
                        return extra, *grid
    raise ValueError(f'{num_tokens} tokens fit no patch grid of a {height}x{width} image')


def to_map(feature: Tensor, image_size: Tuple[int, int]) -> Tensor:
    """A feature as a map.

    Args:
        feature: A map (N, C, H, W), tokens (N, L, C) in row order with class and distillation
            tokens first, or a vector (N, C).
        image_size: Height and width of the model's input in pixels; used for tokens only.

    Returns:
        (N, C, H, W). Vectors become 1x1 maps, class and distillation tokens are dropped.
    """
    if feature.ndim == 4:
        return feature
    if feature.ndim == 2:
        return feature[:, :, None, None]
    if feature.ndim == 3:
        extra, height, width = token_grid(feature.shape[1], image_size)
        return feature[:, extra:].transpose(1, 2).unflatten(2, (height, width))
    raise ValueError(
        f'a feature must be a map (N, C, H, W), tokens (N, L, C) or a vector (N, C), got shape '
        f'{tuple(feature.shape)}'
    )


def resize_like(feature: Tensor, reference: Tensor) -> Tensor:
    """``feature`` (N, C, h, w) resized to the height and width of ``reference``.

    Bilinearly, or by its mean if ``reference`` has a single value per channel, as vectors have:
    bilinear interpolation would then look at the centre alone.
    """
    if feature.shape[-2:] == reference.shape[-2:]:
        return feature
    if reference.shape[-2:] == (1, 1):
        return feature.mean((2, 3), keepdim=True)
    return F.interpolate(feature, reference.shape[-2:], mode='bilinear', align_corners=False)


def maps_of(features: Sequence[Tensor], image_size: Tuple[int, int]) -> List[Tensor]:
    """All features as maps, see :func:`to_map`."""
    return [to_map(feature, image_size) for feature in features]
