"""What holds for distances of any tensors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from mmdiffkd.losses import DISTLoss, KLDivLoss, L1Loss, MSELoss, SmoothL1Loss, dist
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
@given(st.sampled_from([*REGRESSION, DISTLoss]), logits())
def test_symmetric(cls, pair):
    torch.testing.assert_close(cls()(pair[0], pair[1]), cls()(pair[1], pair[0]))


@settings(max_examples=60)
@given(st.sampled_from([*REGRESSION, KLDivLoss]), st.booleans(), logits())
def test_mean_over_images(cls, use_sigmoid, pair):
    """The loss of a batch is the mean of those of its images; DIST compares images."""
    loss = cls(use_sigmoid=use_sigmoid) if cls is KLDivLoss else cls()
    single = [loss(refined[None], target[None]) for refined, target in zip(*pair)]
    torch.testing.assert_close(loss(*pair), torch.stack(single).mean(), rtol=1e-9, atol=1e-12)


@settings(max_examples=60)
@given(losses(), logits(dtype=torch.float32))
def test_float32_agrees_with_float64(loss, pair):
    exact = loss(*pair.double())
    # KL and DIST subtract numbers of about 1 per temperature squared.
    assert (loss(*pair).double() - exact).abs() <= 1e-5 * exact.abs() + 2e-6 * loss_size(loss)


@settings(max_examples=40)
@given(losses(), logits(dtype=torch.float32), st.sampled_from([torch.float16, torch.bfloat16]))
def test_half_precision_is_exact_for_what_was_rounded(loss, pair, dtype):
    """Inputs of half precision are not rounded again."""
    half = pair.to(dtype)
    value = loss(*half)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(*half.float()))


@settings(max_examples=40)
@given(losses(), logits(), st.floats(-3, 3))
def test_weight_is_a_factor(loss, pair, weight):
    plain = loss(*pair)
    loss.loss_weight = weight
    torch.testing.assert_close(loss(*pair), weight * plain)


@settings(max_examples=40)
@given(taus, logits(number=4))
def test_softmax_scores_do_not_know_a_shift_of_all_classes(tau, values):
    """Each image, and each pixel of it, may have another one, in student and teacher."""
    student, teacher = values[:2]
    shifts = 5 * values[2:, :, :1]
    for loss in (KLDivLoss(tau=tau), DISTLoss(tau=tau)):
        torch.testing.assert_close(
            loss(student + shifts[0], teacher + shifts[1]),
            loss(student, teacher),
            rtol=1e-6,
            atol=1e-9,
        )


@settings(max_examples=40)
@given(logits(), st.permutations(range(6)))
def test_order_of_classes_and_images_does_not_matter(pair, order):
    classes = [index for index in order if index < pair.shape[2]]
    images = [index for index in order if index < pair.shape[1]]
    for loss in (MSELoss(), L1Loss(), KLDivLoss(), KLDivLoss(use_sigmoid=True), DISTLoss()):
        torch.testing.assert_close(loss(*pair[:, images][:, :, classes]), loss(*pair))


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
@given(logits(), taus, st.floats(0, 3), st.floats(0, 3))
def test_dist_is_bounded_and_linear_in_its_weights(pair, tau, beta, gamma):
    inter, intra = dist(*pair, 1, 0, tau), dist(*pair, 0, 1, tau)
    assert -1e-9 <= inter <= 2 * tau**2 + 1e-9 and -1e-9 <= intra <= 2 * tau**2 + 1e-9
    torch.testing.assert_close(dist(*pair, beta, gamma, tau), beta * inter + gamma * intra)


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
