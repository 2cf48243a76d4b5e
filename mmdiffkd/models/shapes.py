"""Bring captured features to the one shape that heads and losses work on, (N, C, H, W)."""

from itertools import product
from typing import Collection, List, NamedTuple, Optional, Sequence, Set, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

# Class token, and DeiT's distillation token.
_MAX_EXTRA_TOKENS = 2
# With register tokens. Only images of two sizes tell these from patches.
_MAX_EXTRA_TOKENS_OF_TWO_SIZES = 9

Size = Tuple[int, int]
"""Height and width of a model's input in pixels."""


class TokenLayout(NamedTuple):
    """How the tokens of a module lie in an image.

    Attributes:
        patch: Side of a token's square patch, in pixels.
        extra: Number of leading class, distillation and register tokens.
    """

    patch: int
    extra: int

    def grid(self, num_tokens: int, image_size: Size) -> Optional[Tuple[int, int]]:
        """Height and width of the grid of patches, or None if the number is another."""
        height, width = image_size
        cropped = height // self.patch, width // self.patch
        padded = -(-height // self.patch), -(-width // self.patch)
        grids = (grid for grid in (cropped, padded) if grid[0] * grid[1] + self.extra == num_tokens)
        return next(grids, None)


def token_layout(
    seen: Sequence[Tuple[int, Size]], strides: Optional[Collection[int]] = None
) -> Optional[TokenLayout]:
    """What explains the numbers of tokens that a module yields.

    Args:
        seen: Number of tokens and size of the image, for one size or two.
        strides: What :func:`strides_of` finds in the model. A patch that is a product of these
            comes first, and where only one size was seen no other is accepted. None: any patch.

    Returns:
        None if nothing explains them, as for queries, whose number does not follow the image's
        size, for several scales in a row and for a class token alone.
    """
    several = len(seen) > 1
    if several and len({number for number, _ in seen}) == 1:
        return None
    sides = [side for _, size in seen for side in size]
    patches = range(1, max(sides) + 1)
    own = [patch for patch in patches if strides is None or _is_product(patch, strides)]
    most = _MAX_EXTRA_TOKENS_OF_TWO_SIZES if several else _MAX_EXTRA_TOKENS
    for candidates in (own, patches) if several else (own,):
        # Patches that divide the image first: with few tokens, an odd patch size and no class token
        # can explain the same number.
        dividing = [patch for patch in candidates if all(side % patch == 0 for side in sides)]
        for extra, patch in [
            *product(range(most + 1), dividing),
            *product(range(most + 1), candidates),
        ]:
            layout = TokenLayout(patch, extra)
            # A single patch cannot be told from a class token.
            if all(layout.grid(*one) not in (None, (1, 1)) for one in seen):
                return layout
    return None


def strides_of(model: nn.Module) -> Set[int]:
    """The strides of a model's convolutions, poolings and patch embeddings, in pixels of theirs."""
    found = [
        getattr(module, name, None)
        for module in model.modules()
        for name in ('stride', 'patch_size')
    ]
    sides = [side for value in found for side in (value if isinstance(value, tuple) else (value,))]
    return {side for side in sides if isinstance(side, int) and side > 1}


def _is_product(patch: int, strides: Collection[int]) -> bool:
    """Whether a patch is a product of strides; 2 is always one, which need not be a module's."""
    for stride in sorted({2, *strides}, reverse=True):
        while patch % stride == 0:
            patch //= stride
    return patch == 1


def layouts_of(
    sizes: Sequence[Tuple[Sequence[Tensor], Size]], strides: Collection[int]
) -> List[TokenLayout]:
    """The layouts of those features of a module that are tokens.

    Args:
        sizes: The module's features of an image and that image's size, for one size or two.
        strides: See :func:`token_layout`.

    Raises:
        ValueError: If nothing explains a number of tokens.
    """
    layouts = []
    for features in zip(*(features for features, _ in sizes)):
        if features[0].ndim == 3:
            seen = [(feature.shape[1], size) for feature, (_, size) in zip(features, sizes)]
            layout = token_layout(seen, strides)
            if layout is None:
                raise ValueError(_no_grid(*seen[0]))
            layouts.append(layout)
    return layouts


def to_map(feature: Tensor, image_size: Size, layouts: Sequence[TokenLayout] = ()) -> Tensor:
    """A feature as a map.

    Args:
        feature: A map (N, C, H, W), tokens (N, L, C) in row order with class and distillation
            tokens first, or a vector (N, C).
        image_size: Height and width of the model's input in pixels; used for tokens only.
        layouts: Those that tokens may have, see :func:`layouts_of`.

    Returns:
        (N, C, H, W). Vectors become 1x1 maps, class and distillation tokens are dropped.
    """
    if feature.ndim == 4:
        return feature
    if feature.ndim == 2:
        return feature[:, :, None, None]
    if feature.ndim == 3:
        for layout in layouts:
            grid = layout.grid(feature.shape[1], image_size)
            if grid:
                return feature[:, layout.extra :].transpose(1, 2).unflatten(2, grid)
        raise ValueError(_no_grid(feature.shape[1], image_size))
    raise ValueError(
        f'a feature must be a map (N, C, H, W), tokens (N, L, C) or a vector (N, C), got shape '
        f'{tuple(feature.shape)}'
    )


def _no_grid(num_tokens: int, image_size: Size) -> str:
    return (
        f'{num_tokens} tokens fit no patch grid of a {image_size[0]}x{image_size[1]} image, or '
        f'their number does not follow its size (queries, several scales in a row, a class token '
        f'alone); choose another module'
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


def maps_of(
    features: Sequence[Tensor], image_size: Size, layouts: Sequence[TokenLayout] = ()
) -> List[Tensor]:
    """All features as maps, see :func:`to_map`."""
    return [to_map(feature, image_size, layouts) for feature in features]
