"""Features as maps (N, C, H, W), on which heads and losses work, and levels of their pyramids."""

import difflib
import math
from typing import Collection, List, NamedTuple, NoReturn, Optional, Sequence, Set, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

# Largest number of leading tokens that are no patches. Two: a class token and DeiT's distillation
# token. Nine: register tokens too, which only images of two sizes tell from patches.
_MOST_EXTRA, _MOST_EXTRA_OF_TWO_SIZES = 2, 9

Size = Tuple[int, int]
"""Height and width of a model's input in pixels."""

MapShape = Tuple[int, int, int]
"""Channels, height and width; a vector's height and width are 1."""


class TokenLayout(NamedTuple):
    """Side in pixels of the patches of tokens, and number of leading tokens that are no patches."""

    patch: int
    extra: int

    def grid(self, num_tokens: int, image_size: Size) -> Optional[Tuple[int, int]]:
        """Height and width of the grid of patches, or None if the number does not fit."""
        cropped = tuple(side // self.patch for side in image_size)
        padded = tuple(-(-side // self.patch) for side in image_size)
        grids = (grid for grid in (cropped, padded) if grid[0] * grid[1] + self.extra == num_tokens)
        return next(grids, None)


def token_layout(
    seen: Sequence[Tuple[int, Size]], strides: Optional[Collection[int]] = None
) -> Optional[TokenLayout]:
    """The layout that explains a module's numbers of tokens, or None, as for queries.

    ``seen`` are numbers of tokens and image sizes, of one image or of two sizes. Patches made of
    prime factors of ``strides``, see :func:`strides_of`, are preferred, and with a single image
    only these are accepted. None accepts any patch.
    """
    several = len(seen) > 1
    if several and len({number for number, _ in seen}) == 1:
        return None
    sides = [side for _, size in seen for side in size]
    most = _MOST_EXTRA_OF_TWO_SIZES if several else _MOST_EXTRA
    fitting = []
    for patch in range(1, max(sides) + 1):
        # A stride of 2 may come from slicing or reshaping, which no module shows.
        own = strides is None or (2 * math.prod(strides)) ** 10 % patch == 0
        # An odd patch size may explain few tokens too: patches that divide the image come first.
        divides = all(side % patch == 0 for side in sides)
        for extra in range(most + 1) if own or several else ():
            layout = TokenLayout(patch, extra)
            # A single patch cannot be told from a class token.
            if all(layout.grid(*one) not in (None, (1, 1)) for one in seen):
                fitting.append((not own, not divides, extra, patch, layout))
    return min(fitting)[-1] if fitting else None


def strides_of(model: nn.Module) -> Set[int]:
    """The strides above 1 of a model's convolutions, poolings and patch embeddings."""
    names = ('stride', 'patch_size')
    found = [getattr(module, name, None) for module in model.modules() for name in names]
    sides = [side for value in found for side in (value if isinstance(value, tuple) else (value,))]
    return {side for side in sides if isinstance(side, int) and side > 1}


def layouts_of(
    sizes: Sequence[Tuple[Sequence[Tensor], Size]], strides: Collection[int]
) -> List[TokenLayout]:
    """The layouts of those features of a module that are tokens of patches.

    ``sizes`` has the features and the image size, for one image or two; see :func:`token_layout`.
    """
    layouts = []
    for features in zip(*(features for features, _ in sizes)):
        if features[0].ndim == 3:
            seen = [(feature.shape[1], size) for feature, (_, size) in zip(features, sizes)]
            layouts.append(token_layout(seen, strides) or _refuse_tokens(*seen[0]))
    return layouts


def _refuse_tokens(number: int, image_size: Size) -> NoReturn:
    raise ValueError(
        f'{number} tokens fit no patch grid of a {image_size[0]}x{image_size[1]} image '
        f'(queries, a class token alone, several scales in a row); choose another module'
    )


def to_map(feature: Tensor, image_size: Size, layouts: Sequence[TokenLayout] = ()) -> Tensor:
    """Convert a feature to a map, (N, C, H, W).

    A vector (N, C) becomes a 1x1 map. Tokens (N, L, C) are put in the first of the ``layouts`` that
    fits the size of the model's input, without the leading extra tokens. A map stays as it is. Any
    other feature raises a ValueError.
    """
    if feature.ndim in (2, 4):
        return feature if feature.ndim == 4 else feature[:, :, None, None]
    if feature.ndim != 3:
        raise ValueError(
            f'a feature must be a map (N, C, H, W), tokens (N, L, C) or a vector (N, C), got shape '
            f'{tuple(feature.shape)}'
        )
    for layout in layouts:
        grid = layout.grid(feature.shape[1], image_size)
        if grid:
            return feature[:, layout.extra :].transpose(1, 2).unflatten(2, grid)
    _refuse_tokens(feature.shape[1], image_size)


def resize_like(feature: Tensor, reference: Tensor) -> Tensor:
    """``feature`` (N, C, h, w) resized bilinearly to the height and width of ``reference``."""
    if feature.shape[-2:] == reference.shape[-2:]:
        return feature
    if reference.shape[-2:] == (1, 1):
        # Bilinear interpolation would use the centre alone.
        return feature.mean((2, 3), keepdim=True)
    return F.interpolate(feature, reference.shape[-2:], mode='bilinear', align_corners=False)


def octaves(maps: Sequence[MapShape], side: int) -> List[int]:
    """Rounded base-2 logarithms of the strides of maps of an image ``side`` pixels high."""
    return [round(math.log2(side / height)) for _, height, _ in maps]


def octaves_of_both(
    student: Sequence[MapShape],
    teacher: Sequence[MapShape],
    side: int,
    teacher_side: Optional[int] = None,
) -> Tuple[List[int], List[int]]:
    """The :func:`octaves` of the student's and of the teacher's maps.

    The teacher's images are as high as the student's, or ``teacher_side`` pixels high. A vector
    has no stride: where one of two matched maps is a vector, both have the teacher's.
    """
    ours, theirs = octaves(student, side), octaves(teacher, teacher_side or side)
    if len(ours) == len(theirs):
        single = [(1, 1) in (s[1:], t[1:]) for s, t in zip(student, teacher)]
        ours = [t if one else s for s, t, one in zip(ours, theirs, single)]
    return ours, theirs


def better_cut(student: Sequence[int], teacher: Sequence[int]) -> Optional[Tuple[slice, slice]]:
    """The longest run of levels with equal octaves in both models, as slices.

    None if the levels in their order already agree in at least as many places.
    """
    matcher = difflib.SequenceMatcher(None, student, teacher)
    match = matcher.find_longest_match(0, len(student), 0, len(teacher))
    same_number = len(student) == len(teacher)
    if match.size <= (sum(s == t for s, t in zip(student, teacher)) if same_number else 0):
        return None
    return slice(match.a, match.a + match.size), slice(match.b, match.b + match.size)


def cut_to(paths: Sequence[str], levels: Sequence[slice], numbers: Sequence[int]) -> Tuple:
    """The paths of the two models with an index that leaves only the given ``levels``.

    ``numbers`` are the numbers of maps that the paths yield.
    """
    cut = []
    for path, part, number in zip(paths, levels, numbers):
        module, colon, argument = path.partition(':input')
        stop = part.stop if part.stop < number else ''
        index = f'[{part.start or ""}:{stop}]'
        if part.stop - part.start == 1:
            index = f'[{part.start}]' if stop else '[-1]'
        whole = part.stop - part.start == number
        cut.append(path if whole else f'{module}{index}{colon}{argument}')
    return tuple(cut)
