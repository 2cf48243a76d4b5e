"""Distances of other methods: extreme maps, and labels of every kind."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mmdiffkd.errors import ConfigError
from mmdiffkd.losses import ATLoss, CWDLoss, DKDLoss, PKDLoss, dkd
from mmdiffkd.models.context import PairContext
from mmdiffkd.registry import MODELS


def context_of(samples):
    return PairContext(torch.zeros(2, 3, 8, 8), samples, 0, (8, 8), (8.0, 8.0))


@pytest.mark.parametrize('cls', [CWDLoss, PKDLoss, ATLoss])
@pytest.mark.parametrize(
    'student',
    [
        torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0)),
        torch.randn(1, 4, 1, 1, generator=torch.Generator().manual_seed(0)),
        torch.zeros(2, 4, 3, 5),
        torch.full((2, 4, 3, 5), 0.3),
        torch.zeros(0, 4, 3, 5),
    ],
    ids=['random', 'one pixel', 'zero', 'constant', 'no rows'],
)
def test_maps(cls, student):
    """Finite, in float32 also under autocast, with the weight of the config."""
    student = student.clone().requires_grad_()
    teacher = torch.randn(student.shape, generator=torch.Generator().manual_seed(1))
    loss = MODELS.build(dict(type=f'mmdiffkd.{cls.__name__}', loss_weight=3.0))
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(student, teacher)
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite()
    assert student.grad.isfinite().all()
    assert not (student.grad.abs() > 1e3).any()
    torch.testing.assert_close(value, 3 * cls()(student, teacher))


def test_normalised_cwd():
    """The distance of what batch norms without weights yield, whatever the scale of a channel."""
    student, teacher = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = CWDLoss()(*(F.batch_norm(x, None, None, training=True) for x in (student, teacher)))
    scale = torch.tensor([0.1, 1, 100])[:, None, None]
    moved = CWDLoss(normalize=True)(scale * student - 5, scale * teacher + 7)
    torch.testing.assert_close(moved, plain, rtol=1e-3, atol=0)


LOGITS = torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(0)).double()


def sample(**annotations):
    return SimpleNamespace(**annotations)


def test_labels_of_mixed_images():
    """As the mean over the two classes of an image, weighted by their shares."""
    mixed = torch.tensor([[0.3, 0.0, 0.7, 0.0], [0.0, 1.0, 0.0, 0.0]]).double()
    parts = [dkd(*LOGITS[:, image : image + 1], torch.tensor([label]))
             for image, label in ((0, 0), (0, 2), (1, 1))]  # fmt: skip
    expected = (0.3 * parts[0] + 0.7 * parts[1] + parts[2]) / 2
    torch.testing.assert_close(dkd(*LOGITS, mixed), expected)
    samples = [sample(gt_label=torch.tensor([0]), gt_score=score) for score in mixed]
    torch.testing.assert_close(DKDLoss()(*LOGITS, context_of(samples)), expected)


@pytest.mark.parametrize(
    'samples',
    [
        [sample(gt_label=torch.tensor([label])) for label in (2, 1)],
        torch.tensor([2, 1]),
    ],
)
def test_labels_of_whole_images(samples):
    """Logits are maps of one pixel inside a pair."""
    student, teacher = LOGITS[..., None, None]
    expected = 2 * dkd(*LOGITS, torch.tensor([2, 1]), alpha=1, beta=2, tau=3)
    loss = DKDLoss(alpha=1, beta=2, tau=3, loss_weight=2)
    torch.testing.assert_close(loss(student, teacher, context_of(samples)), expected)


def test_missing_labels_are_named():
    samples = [sample(gt_label=torch.tensor([0, 1])), sample(gt_label=torch.tensor([2]))]
    for wrong in (samples, None, [sample(), sample()]):
        with pytest.raises(ConfigError, match='needs the class of each image'):
            DKDLoss()(*LOGITS, context_of(wrong))


def test_maps_have_no_label():
    maps = torch.randn(2, 4, 3, 5)
    with pytest.raises(ConfigError, match=r'must be vectors \(N, C\), got maps of 3x5'):
        DKDLoss()(maps, maps, context_of(torch.tensor([2, 1])))


def test_extreme_logits():
    student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = dkd(student, torch.tensor([[-1e4, 1e4, 0.0]]), torch.tensor([0]))
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()
