"""Conversion of captured features to maps, (N, C, H, W), which heads and losses work on."""

from itertools import product
from typing import Collection, List, NamedTuple, Optional, Sequence, Set, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

# A class token and DeiT's distillation token.
_MAX_EXTRA_TOKENS = 2
# With register tokens, which only images of two sizes tell from patches.
_MAX_EXTRA_TOKENS_OF_TWO_SIZES = 9

Size = Tuple[int, int]
"""Height and width of a model's input in pixels."""


class TokenLayout(NamedTuple):
    """How the tokens of a module are placed in an image.

    Attributes:
        patch: Side in pixels of the square patch of a token.
        extra: Number of leading tokens that are no patches: class, distillation, registers.
    """

    patch: int
    extra: int

    def grid(self, num_tokens: int, image_size: Size) -> Optional[Tuple[int, int]]:
        """Height and width of the grid of patches, or None if the number does not fit."""
        height, width = image_size
        cropped = height // self.patch, width // self.patch
        padded = -(-height // self.patch), -(-width // self.patch)
        grids = (grid for grid in (cropped, padded) if grid[0] * grid[1] + self.extra == num_tokens)
        return next(grids, None)


def token_layout(
    seen: Sequence[Tuple[int, Size]], strides: Optional[Collection[int]] = None
) -> Optional[TokenLayout]:
    """Find the layout that explains a module's numbers of tokens.

    Args:
        seen: Number of tokens and image size, for one image or for two of different sizes.
        strides: Result of :func:`strides_of`. Patches that are products of these are preferred;
            with a single image only these are accepted. None accepts any patch.

    Returns:
        None if there is no such layout, as for queries, whose number is independent of the size.
    """
    several = len(seen) > 1
    if several and len({number for number, _ in seen}) == 1:
        return None
    sides = [side for _, size in seen for side in size]
    patches = range(1, max(sides) + 1)
    own = [patch for patch in patches if strides is None or _is_product(patch, strides)]
    extras = range(1 + (_MAX_EXTRA_TOKENS_OF_TWO_SIZES if several else _MAX_EXTRA_TOKENS))
    for candidates in (own, patches) if several else (own,):
        # An odd patch size may explain few tokens too: patches that divide the image come first.
        dividing = [patch for patch in candidates if all(side % patch == 0 for side in sides)]
        for extra, patch in [*product(extras, dividing), *product(extras, candidates)]:
            layout = TokenLayout(patch, extra)
            # A single patch cannot be told from a class token.
            if all(layout.grid(*one) not in (None, (1, 1)) for one in seen):
                return layout
    return None


def strides_of(model: nn.Module) -> Set[int]:
    """The strides above 1 of a model's convolutions, poolings and patch embeddings."""
    names = ('stride', 'patch_size')
    found = [getattr(module, name, None) for module in model.modules() for name in names]
    sides = [side for value in found for side in (value if isinstance(value, tuple) else (value,))]
    return {side for side in sides if isinstance(side, int) and side > 1}


def _is_product(patch: int, strides: Collection[int]) -> bool:
    # A stride of 2 may come from slicing or reshaping, which no module shows.
    for stride in sorted({2, *strides}, reverse=True):
        while patch % stride == 0:
            patch //= stride
    return patch == 1


def layouts_of(
    sizes: Sequence[Tuple[Sequence[Tensor], Size]], strides: Collection[int]
) -> List[TokenLayout]:
    """The layouts of those features of a module that are tokens.

    Args:
        sizes: Features of the module and size of the image, for one image or two.
        strides: Result of :func:`strides_of`.

    Raises:
        ValueError: If no layout explains a number of tokens.
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
    """Convert a feature to a map, (N, C, H, W).

    Args:
        feature: A map (N, C, H, W), a vector (N, C), which becomes a 1x1 map, or tokens (N, L, C)
            in row order, whose leading extra tokens are dropped.
        image_size: Height and width of the model's input in pixels; used for tokens only.
        layouts: Possible layouts of tokens.

    Raises:
        ValueError: If the feature is none of these.
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


def maps_of(
    features: Sequence[Tensor], image_size: Size, layouts: Sequence[TokenLayout] = ()
) -> List[Tensor]:
    """All features as maps, see :func:`to_map`."""
    return [to_map(feature, image_size, layouts) for feature in features]


def _no_grid(num_tokens: int, image_size: Size) -> str:
    return (
        f'{num_tokens} tokens fit no patch grid of a {image_size[0]}x{image_size[1]} image '
        f'(queries, a class token alone, several scales in a row); choose another module'
    )


def resize_like(feature: Tensor, reference: Tensor) -> Tensor:
    """``feature`` (N, C, h, w) resized bilinearly to the height and width of ``reference``.

    The mean is taken for a 1x1 reference, of which bilinear interpolation would use the centre.
    """
    if feature.shape[-2:] == reference.shape[-2:]:
        return feature
    if reference.shape[-2:] == (1, 1):
        return feature.mean((2, 3), keepdim=True)
    return F.interpolate(feature, reference.shape[-2:], mode='bilinear', align_corners=False)
