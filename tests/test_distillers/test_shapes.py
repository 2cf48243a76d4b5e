"""Maps, tokens and vectors become maps of one size."""

import pytest
import torch

from mmdiffkd.distillers.shapes import resize_like, to_map, token_grid

pytestmark = pytest.mark.contract(6, 'shapes')


def test_maps_and_vectors():
    x = torch.randn(2, 3, 4, 5)
    assert to_map(x, (32, 32)) is x
    assert to_map(torch.randn(2, 7), (32, 32)).shape == (2, 7, 1, 1)


def test_tokens_of_an_image_that_the_patches_do_not_divide():
    assert token_grid(7 * 4, (100, 50)) == (0, 7, 4)


def test_errors():
    with pytest.raises(ValueError, match='997 tokens fit no patch grid of a 64x160 image'):
        token_grid(997, (64, 160))
    with pytest.raises(ValueError, match=r'got shape \(1, 2, 3, 4, 5\)'):
        to_map(torch.zeros(1, 2, 3, 4, 5), (32, 32))


def test_resize():
    x, reference = torch.full((1, 2, 3, 5), 7.0), torch.zeros(1, 9, 6, 4)
    assert resize_like(reference, reference) is reference
    assert torch.equal(resize_like(x, reference), torch.full((1, 2, 6, 4), 7.0))


def test_a_vector_is_compared_with_the_mean():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert resize_like(x, torch.zeros(1, 9, 1, 1)).item() == 5.5
