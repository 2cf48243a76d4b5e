"""Features of any shape and layout become maps of one size."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmdiffkd.models.shapes import resize_like, to_map, token_layout

pytestmark = pytest.mark.contract(6, 'shapes')

seeds = st.integers(0, 2**31)
sides = st.integers(1, 9)
PATCHES = (1, 2, 4, 7, 8, 14, 16, 31, 32)


def numbered(*shape):
    """Each element differs from all others."""
    return torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)


@settings(max_examples=40)
@given(st.sampled_from(PATCHES), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2))
def test_tokens_of_every_image_that_patches_divide(patch, height, width, extra):
    """No other patch size that divides it explains the same number, with whatever class tokens."""
    assume(height * width > 1)
    expected = numbered(2, 3, height, width)
    tokens = torch.cat([torch.full((2, extra, 3), -1.0), expected.flatten(2).mT], dim=1)
    size = height * patch, width * patch
    layout = token_layout([(height * width + extra, size)])
    assert torch.equal(to_map(tokens, size, [layout]), expected)


@given(
    st.sampled_from((8, 14, 16, 32)),
    st.integers(10, 90),
    st.integers(10, 90),
    st.booleans(),
    st.tuples(st.integers(0, 31), st.integers(0, 31)),
    st.integers(0, 2),
)
def test_tokens_of_images_that_patches_do_not_divide(patch, rows, columns, padded, over, extra):
    """Models pad such an image or leave out what is over. Ten patches per side tell enough."""
    sign = -1 if padded else 1
    size = tuple(n * patch + sign * (rest % patch) for n, rest in zip((rows, columns), over))
    number = rows * columns + extra
    layout = token_layout([(number, size)])
    assert (layout.extra, layout.grid(number, size)) == (extra, (rows, columns))


def interpolation_matrix(old, new):
    """Bilinear weights of one dimension where pixels are areas, (new, old)."""
    matrix = np.zeros((new, old))
    for row in range(new):
        position = min(max((row + 0.5) * old / new - 0.5, 0), old - 1)
        lower = min(int(position), max(old - 2, 0))
        matrix[row, lower] += 1 - (position - lower)
        if old > 1:
            matrix[row, lower + 1] += position - lower
    return matrix


@settings(max_examples=40)
@given(sides, sides, sides, sides, st.integers(1, 3), seeds)
def test_resizing(height, width, new_height, new_width, num, seed):
    """By its definition: bilinear, or the mean where one value per channel is wanted."""
    x = torch.randn(num, 2, height, width, generator=torch.Generator().manual_seed(seed)).double()
    reference = torch.zeros(num, 5, new_height, new_width)
    resized = resize_like(x, reference)
    assert resized.shape == (num, 2, new_height, new_width)
    if (new_height, new_width) == (1, 1):
        torch.testing.assert_close(resized[:, :, 0, 0], x.mean((2, 3)))
        return
    matrices = interpolation_matrix(height, new_height), interpolation_matrix(width, new_width)
    expected = np.einsum('ih,jw,nchw->ncij', *matrices, x.numpy())
    torch.testing.assert_close(resized, torch.from_numpy(expected))
