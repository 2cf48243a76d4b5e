"""What holds for distances of any tensors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from mmdiffkd.losses import DISTLoss, KLDivLoss, L1Loss, MSELoss, SmoothL1Loss
from mmdiffkd.losses.dist import pearson_distance

REGRESSION = [MSELoss, L1Loss, SmoothL1Loss]
seeds = st.integers(0, 2**31)
taus = st.sampled_from([0.5, 1.0, 4.0])


@st.composite
def losses(draw):
    """A loss with some setting of its own."""
    cls = draw(st.sampled_from([*REGRESSION, KLDivLoss, DISTLoss]))
    if cls is SmoothL1Loss:
        return cls(beta=draw(st.sampled_from([0.1, 1.0, 10.0])))
    if cls is KLDivLoss:
        return cls(tau=draw(taus), use_sigmoid=draw(st.booleans()))
    if cls is DISTLoss:
        return cls(tau=draw(taus), beta=draw(st.sampled_from([0.5, 1, 2])))
    return cls()


@st.composite
def logits(draw, number=2, min_classes=2, dtype=torch.float64):
    """Tensors of one shape, (N, C), (N, C, H, W) or between, with values of one size."""
    shape = (
        draw(st.integers(2, 5)),
        draw(st.integers(min_classes, 6)),
        *draw(st.lists(st.integers(1, 4), max_size=2)),
    )
    generator = torch.Generator().manual_seed(draw(seeds))
    size = draw(st.sampled_from([0.1, 1.0, 10.0]))
    return size * torch.randn(number, *shape, dtype=dtype, generator=generator)


@settings(max_examples=100)
@given(losses(), logits())
def test_zero_for_equal_inputs_and_never_below(loss, pair):
    if isinstance(loss, DISTLoss):
        # It puts classes that no image shows, whose scores have no correlation, at a distance.
        pair = pair / pair.abs().max()
    refined, target = pair
    assert loss(refined, refined).abs() <= 1e-12 * loss_size(loss)
    value = loss(refined, target)
    assert value.shape == () and value.dtype == refined.dtype
    assert value >= -1e-12 * loss_size(loss)


def loss_size(loss):
    """What one rounding is multiplied with."""
    return max(1.0, getattr(loss, 'tau', 1.0) ** 2)


@settings(max_examples=60)
@given(losses(), logits(dtype=torch.float32))
def test_float32_agrees_with_float64(loss, pair):
    exact = loss(*pair.double())
    # KL and DIST subtract numbers of about 1 per temperature squared.
    assert (loss(*pair).double() - exact).abs() <= 1e-5 * exact.abs() + 2e-6 * loss_size(loss)


@settings(max_examples=60)
@given(
    seeds,
    st.tuples(st.integers(1, 5), st.integers(2, 6)),
    st.floats(0.01, 100),
    st.floats(-100, 100),
)
def test_correlation_does_not_know_scale_and_shift(seed, shape, scale, shift):
    x, y = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)).double()
    distance = pearson_distance(x, y)
    assert -1e-12 <= distance <= 2 + 1e-12
    torch.testing.assert_close(pearson_distance(scale * x + shift, y), distance)
    torch.testing.assert_close(pearson_distance(-scale * x + shift, y), 2 - distance)
    expected = 1 - np.mean([np.corrcoef(*rows)[0, 1] for rows in zip(x.numpy(), y.numpy())])
    assert distance.item() == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40)
@given(logits(), taus)
def test_sigmoid_kl_is_a_softmax_kl_of_two_classes(pair, tau):
    """One score per element is a choice between it and nothing."""
    flat = pair.flatten(1)[..., None]
    two = torch.cat([flat, torch.zeros_like(flat)], dim=2)
    torch.testing.assert_close(
        KLDivLoss(tau, use_sigmoid=True)(*pair), KLDivLoss(tau)(*two), rtol=1e-7, atol=1e-10
    )


@settings(max_examples=30)
@given(losses(), logits())
def test_gradients_are_those_of_finite_differences(loss, pair):
    refined, target = pair[0].clone().requires_grad_(), pair[1]
    assert gradcheck(lambda refined: loss(refined, target), refined, atol=1e-4, rtol=1e-3)
