"""Maps, tokens and vectors become maps of one size."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmdiffkd.models.shapes import TokenLayout, resize_like, to_map, token_layout


def test_features_become_maps():
    x = torch.randn(2, 3, 4, 5)
    assert to_map(x, (32, 32)) is x
    assert to_map(torch.randn(2, 7), (32, 32)).shape == (2, 7, 1, 1)
    layouts = [TokenLayout(16, 1)]
    assert to_map(torch.zeros(2, 13, 5), (48, 64), layouts).shape == (2, 5, 3, 4)
    with pytest.raises(ValueError, match='17 tokens fit no patch grid of a 48x64 image'):
        to_map(torch.zeros(2, 17, 5), (48, 64), layouts)
    with pytest.raises(ValueError, match=r'got shape \(1, 2, 3, 4, 5\)'):
        to_map(torch.zeros(1, 2, 3, 4, 5), (32, 32))


@pytest.mark.parametrize('number', [1, 49, 300])
def test_what_does_not_follow_the_image_s_size_is_no_map(number):
    """Queries, and class tokens alone."""
    assert token_layout([(number, (224, 224)), (number, (256, 256))], {2, 14}) is None


@pytest.mark.parametrize('patch, extra', [(4, 0), (14, 1), (14, 5), (16, 2), (28, 0), (32, 0)])
def test_two_sizes_tell_patch_and_leading_tokens(patch, extra):
    seen = [(math.ceil(side / patch) ** 2 + extra, (side, side)) for side in (224, 256)]
    assert token_layout(seen, {2, 14}) == (patch, extra)


def test_where_one_size_is_seen_the_patch_is_a_product_of_the_model_s_strides():
    assert token_layout([(196, (224, 224))], {4, 2}) == (16, 0)
    assert token_layout([(257, (224, 224))], {14}) == (14, 1)
    assert token_layout([(256, (224, 224))], {4, 2}) is None
    assert token_layout([(100, (224, 224))], {4, 2}) is None


@settings(max_examples=40)
@given(st.sampled_from((1, 2, 7, 14, 16, 31)), *[st.integers(1, 40)] * 2, st.integers(0, 2))
def test_tokens_of_every_image_that_patches_divide(patch, height, width, extra):
    """No other patch size that divides it explains the same number, with whatever class tokens."""
    assume(height * width > 1)
    expected = torch.arange(6.0 * height * width).reshape(2, 3, height, width)
    tokens = torch.cat([torch.full((2, extra, 3), -1.0), expected.flatten(2).mT], dim=1)
    size = height * patch, width * patch
    layout = token_layout([(height * width + extra, size)])
    assert torch.equal(to_map(tokens, size, [layout]), expected)


def test_resizing():
    """Bilinear, or the mean where one value per channel is wanted."""
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert resize_like(x, torch.zeros(1, 9, 1, 1)).item() == 5.5
    assert resize_like(x, torch.zeros(1, 9, 3, 4)) is x
    wider = resize_like(x[..., :2], torch.zeros(1, 9, 3, 4))
    torch.testing.assert_close(wider[0, 0, 1], torch.tensor([4.0, 4.25, 4.75, 5.0]))
