"""Contract 9 at the edges: losses and gradients of every head and loss stay finite."""

import pytest
import torch

from mmdiffkd.diffusion import AlignHead, DiffKDHead
from mmdiffkd.losses import DISTLoss, KLDivLoss, L1Loss, MSELoss, SmoothL1Loss

HEADS = dict(
    align=AlignHead,
    maps=DiffKDHead,
    autoencoder=lambda *c: DiffKDHead(*c, ae_channels=6),
    recomputed=lambda *c: DiffKDHead(*c, checkpoint=True),
    vectors=lambda *c: DiffKDHead(*c, kernel_size=1),
)
LOSSES = [
    MSELoss(),
    L1Loss(),
    SmoothL1Loss(),
    KLDivLoss(tau=4.0),
    KLDivLoss(use_sigmoid=True),
    DISTLoss(),
]
# The last is large enough for batch norms that are joined with the convolution before.
SIZES = [(1, 1, 1), (3, 1, 1), (1, 6, 5), (1, 33, 32)]
FEATURES = dict(
    large=lambda noise: 1e4 * noise,
    large_and_constant=lambda noise: torch.full_like(noise, 1e4),
    large_with_little_variance=lambda noise: 1e4 + 1e-3 * noise,
    zero=torch.zeros_like,
    constant_per_channel=lambda noise: noise.mean((0, 2, 3), keepdim=True).expand_as(noise),
    one_peak=lambda noise: torch.zeros_like(noise).index_fill(1, torch.tensor([0]), 1e4),
    tiny=lambda noise: 1e-8 * noise,
)


def features(kind, channels, size):
    num, height, width = size
    generator = torch.Generator().manual_seed(channels)
    return FEATURES[kind](torch.randn(num, channels, height, width, generator=generator))


def parts_of(head, student, teacher):
    """Every loss of a head, with each distance."""
    output = head(student, teacher)
    distances = [loss(output.refined, output.target) for loss in LOSSES]
    own = list(output.losses.values())
    return distances + own


def check(name, kind, size, dtype=None, scale=1.0):
    torch.manual_seed(0)
    head = HEADS[name](8, 12)
    student, teacher = features(kind, 8, size).clone().requires_grad_(), features(kind, 12, size)
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        losses = parts_of(head, student, teacher)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses)
    # Had one of them a gradient that is not finite, the sum would have it.
    (scale * sum(losses)).backward()
    for tensor in (student, *head.parameters()):
        assert tensor.grad.isfinite().all()
    assert all(buffer.isfinite().all() for buffer in head.buffers())


def sizes_of(name):
    return [size for size in SIZES if name != 'vectors' or size[1:] == (1, 1)]


CASES = [(name, size) for name in HEADS for size in sizes_of(name)]


@pytest.mark.parametrize('kind', FEATURES)
@pytest.mark.parametrize(('name', 'size'), CASES)
def test_float32(name, size, kind):
    check(name, kind, size)


@pytest.mark.slow
@pytest.mark.parametrize('kind', FEATURES)
@pytest.mark.parametrize(('name', 'size'), CASES[::2])
def test_bfloat16(name, size, kind):
    check(name, kind, size, torch.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize('kind', FEATURES)
@pytest.mark.parametrize(('name', 'size'), CASES[::2])
def test_float16(name, size, kind):
    """Gradients of squares of 1e4 overflow in half precision: the scale that AMP finds helps."""
    check(name, kind, size, torch.float16, scale=2.0**-20)


def test_one_value_per_channel_uses_and_keeps_the_running_statistics():
    """One image whose map is 1x1, or whose logits are the feature, has no batch statistics."""
    for name in ('maps', 'vectors', 'autoencoder'):
        head = HEADS[name](8, 12)
        before = {key: value.clone() for key, value in head.named_buffers()}
        sum(parts_of(head, features('large', 8, (1, 1, 1)), features('large', 12, (1, 1, 1))))
        for key, value in head.named_buffers():
            assert torch.equal(value, before[key]), key
