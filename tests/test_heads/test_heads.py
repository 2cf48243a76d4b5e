"""Heads that compute their distance themselves: extreme inputs, and half precision."""

from types import SimpleNamespace

import pytest
import torch

from mmdiffkd.diffusion import AlignHead, DiffKDHead
from mmdiffkd.heads import FGDHead, MGDHead
from mmdiffkd.models.context import PairContext

BOXES = [torch.tensor([[3.0, 5.0, 40.0, 31.0], [10.0, 8.0, 10.0, 20.0]]), torch.zeros(0, 4)]


def context_of(feature, boxes=BOXES):
    samples = [SimpleNamespace(gt_instances=SimpleNamespace(bboxes=x)) for x in boxes]
    return PairContext.of_map(torch.zeros(2, 3, 32, 48), samples, 0, feature)


def run(head, student, teacher):
    """The distance of two maps, and that it and all gradients are finite."""
    context = dict(context=context_of(teacher)) if isinstance(head, FGDHead) else {}
    student = student.requires_grad_()
    output = head(student, teacher, **context)
    output.distance.backward()
    assert output.distance.isfinite() and output.distance.dtype == torch.float32
    assert output.refined.dtype == output.target.dtype == torch.float32
    for tensor in (student, *head.parameters()):
        assert tensor.grad is not None and tensor.grad.isfinite().all()
    return output.distance


@pytest.fixture(params=[MGDHead, lambda *c: MGDHead(*c, mask='channels'), FGDHead])
def head(request):
    torch.manual_seed(0)
    return request.param(5, 6)


@pytest.mark.parametrize(
    'maps',
    [
        lambda channels: torch.randn(2, channels, 4, 6),
        lambda channels: torch.randn(2, channels, 1, 1),
        lambda channels: torch.zeros(2, channels, 4, 6),
        lambda channels: torch.full((2, channels, 4, 6), 3.0),
        lambda channels: torch.randn(0, channels, 4, 6),
    ],
    ids=['random', 'one place', 'zero', 'constant', 'no rows'],
)
def test_finite(head, maps):
    run(head, maps(5), maps(6))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast(head, dtype):
    """Close to the distance in float32, and the sums do not overflow."""
    student, teacher = 30 * torch.randn(2, 5, 16, 24), 30 * torch.randn(2, 6, 16, 24)
    torch.manual_seed(1)
    expected = run(head, student, teacher)
    torch.manual_seed(1)
    with torch.autocast('cpu', dtype):
        distance = run(head, student.detach().to(dtype), teacher.to(dtype))
    torch.testing.assert_close(distance, expected, rtol=0.03, atol=0)


def test_mask_leaves_the_given_share():
    head = MGDHead(4, 4, mask_ratio=0.25)
    kept = []
    head.generation.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    head(torch.ones(2, 4, 50, 50), torch.zeros(2, 4, 50, 50))
    assert kept[0].mean().item() == pytest.approx(0.75, abs=0.05)
    assert torch.equal(kept[0], kept[0][:, :1].expand_as(kept[0]))


def test_boxes_of_a_padded_batch():
    """Objects count more than the background, which is all that an image without boxes has."""
    teacher = torch.zeros(2, 6, 4, 6)
    for places in (slice(0, 2), slice(4, 6)):
        student = teacher.clone()
        student[0, :, :, places] = 1
        head = FGDHead(6, 6, alpha=1.0, beta=0.0, gamma=0.0, lambda_=0.0)
        boxes = [torch.tensor([[0.0, 0.0, 15.0, 32.0]]), torch.zeros(0, 4)]
        distance = head(student, teacher, context_of(teacher, boxes)).distance
        # Six channels, two columns of four places of a box that covers three columns and five rows.
        expected = 6 * 8 / 15 / 2 if places.start == 0 else 0
        assert distance.item() == pytest.approx(expected)


@pytest.mark.parametrize('build', [AlignHead, DiffKDHead, MGDHead, FGDHead])
def test_vectors_are_refused_in_one_line(build):
    context = {'context': context_of(torch.zeros(2, 6, 1, 1))} if build is FGDHead else {}
    with pytest.raises(ValueError, match=r'maps \(N, C, H, W\), got a tensor of shape \(2, 5\)'):
        build(5, 6)(torch.randn(2, 5), torch.randn(2, 6), **context)
