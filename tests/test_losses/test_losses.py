"""Numbers worked out by other means than the code's own."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from mmdiffkd.losses import (
    DISTLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    SmoothL1Loss,
    dist,
    sigmoid_kl,
    softmax_kl,
)
from mmdiffkd.registry import MODELS

LOSSES = [MSELoss, L1Loss, SmoothL1Loss, KLDivLoss, DISTLoss]


def pair(*shape):
    torch.manual_seed(0)
    return torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)


def test_regression_by_hand():
    refined, target = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 5.0]])
    assert MSELoss()(refined, target) == pytest.approx((1 + 9) / 2)
    assert L1Loss(loss_weight=2)(refined, target) == pytest.approx(2 * (1 + 3) / 2)
    # |d| = 1 < beta: d^2 / (2 beta); |d| = 3 > beta: |d| - beta / 2.
    assert SmoothL1Loss(beta=2)(refined, target) == pytest.approx((1 / 4 + 2) / 2)


@pytest.mark.parametrize('tau', [1.0, 4.0])
def test_softmax_kl_agrees_with_scipy(tau):
    student, teacher = pair(5, 7)
    p, q = (softmax(x.numpy() / tau, axis=1) for x in (teacher, student))
    expected = tau**2 * np.mean(entropy(p, q, axis=1))
    assert softmax_kl(student, teacher, tau).item() == pytest.approx(expected)


def test_softmax_kl_of_maps_is_the_mean_over_pixels():
    student, teacher = pair(2, 4, 3, 5)
    pixels = [x.permute(0, 2, 3, 1).reshape(-1, 4) for x in (student, teacher)]
    torch.testing.assert_close(softmax_kl(student, teacher), softmax_kl(*pixels))


@pytest.mark.parametrize('tau', [1.0, 4.0])
def test_sigmoid_kl_agrees_with_scipy(tau):
    student, teacher = pair(3, 4)
    p, q = (1 / (1 + np.exp(-x.numpy() / tau)) for x in (teacher, student))
    expected = tau**2 * np.mean(entropy([p, 1 - p], [q, 1 - q], axis=0))
    assert sigmoid_kl(student, teacher, tau).item() == pytest.approx(expected)


@pytest.mark.parametrize('function', [softmax_kl, sigmoid_kl])
def test_kl_is_finite_for_extreme_logits(function):
    student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = function(student, torch.tensor([[-1e4, 1e4, 0.0]]))
    loss.backward()
    assert math.isfinite(loss.item()) and student.grad.isfinite().all()


def test_dist_agrees_with_numpy():
    student, teacher = pair(6, 4)
    p, q = (softmax(x.numpy() / 2, axis=1) for x in (student, teacher))
    inter = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q)])
    intra = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T)])
    expected = 4 * (0.5 * inter + 2 * intra)
    assert dist(student, teacher, beta=0.5, gamma=2, tau=2).item() == pytest.approx(expected)


def test_dist_of_maps_takes_each_pixel_as_a_sample():
    student, teacher = pair(2, 4, 3, 5)
    pixels = [x.permute(0, 2, 3, 1).reshape(-1, 4) for x in (student, teacher)]
    torch.testing.assert_close(dist(student, teacher), dist(*pixels))


@pytest.mark.parametrize('logit', [0.0, 0.3])
def test_dist_of_a_student_that_knows_nothing(logit):
    """A last layer that starts at zero: no correlation, and no gradient of rounding errors."""
    student = torch.full((8, 1000), logit, requires_grad=True)
    loss = dist(student, torch.randn(8, 1000, generator=torch.Generator().manual_seed(0)))
    loss.backward()
    assert loss.item() == pytest.approx(2) and student.grad.count_nonzero() == 0


@pytest.mark.parametrize('cls', LOSSES)
def test_gradient_goes_to_the_student_only(cls):
    refined, target = (x.requires_grad_() for x in pair(4, 5, 2, 3))
    cls()(refined, target).backward()
    assert refined.grad.abs().sum() > 0 and target.grad is None


@pytest.mark.parametrize('cls', LOSSES)
def test_half_precision_is_computed_in_float32(cls):
    refined, target = (x.half() for x in pair(4, 5, 2, 3))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = cls()(refined, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, cls()(refined.float(), target.float()))


@pytest.mark.parametrize('cls', LOSSES)
def test_weight_and_registry(cls):
    refined, target = pair(4, 5)
    weighted = MODELS.build(dict(type=f'mmdiffkd.{cls.__name__}', loss_weight=3.0))
    torch.testing.assert_close(weighted(refined, target), 3 * cls()(refined, target))


@pytest.mark.parametrize(
    ('cls', 'wrong'), [(SmoothL1Loss, 'beta'), (KLDivLoss, 'tau'), (DISTLoss, 'tau')]
)
def test_wrong_arguments_are_named(cls, wrong):
    with pytest.raises(ValueError, match=f'{wrong} must be a finite number above 0'):
        cls(**{wrong: 0})
