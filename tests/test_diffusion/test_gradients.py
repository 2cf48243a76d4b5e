"""Gradients of small heads are those of finite differences, in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from mmdiffkd.diffusion import DiffKDHead, NoiseAdapter
from mmdiffkd.diffusion.layers import Bottleneck
from mmdiffkd.diffusion.normalized_conv import normalized_conv_add

KINDS = dict(
    maps=dict(kernel_size=3),
    autoencoder=dict(kernel_size=3, ae_channels=2),
    vectors=dict(kernel_size=1),
    vectors_autoencoder=dict(kernel_size=1, ae_channels=2),
)


def small_case(kernel_size, monkeypatch, **kind):
    """A head with few parameters, a student's and a teacher's feature, and the random numbers."""
    monkeypatch.setattr(DiffKDHead, 'MIN_EMBEDDINGS', 8)
    torch.manual_seed(0)
    head = DiffKDHead(
        2, 3, kernel_size, num_steps=2, num_train_timesteps=8, adapter_reduction=2, reduction=2,
        **kind,
    ).double()  # fmt: skip
    size = (5, 1, 1) if kernel_size == 1 else (2, 3, 2)
    student, teacher = (torch.randn(size[0], c, *size[1:]).double() for c in (2, 3))
    width = kind.get('ae_channels', 3)
    noises = torch.randn(2, size[0], width, *size[1:]).double()
    draws = dict(
        student_noise=noises[0],
        diffusion_noise=noises[1],
        timesteps=torch.randint(8, size[:1]),
    )
    return head, student.requires_grad_(), teacher, draws


def losses_of(head, student, teacher, draws):
    output = head(student, teacher, **draws)
    return F.mse_loss(output.refined, output.target), *output.losses.values()


@pytest.mark.contract(8, 'gradients')
@pytest.mark.parametrize('checkpoint', [False, True], ids=['kept', 'checkpoint'])
@pytest.mark.parametrize(
    ('kind', 'joined'),
    # Heads of vectors have no bottlenecks whose last norms could be joined.
    [*((kind, False) for kind in KINDS), ('maps', True), ('autoencoder', True)],
)
def test_head(kind, joined, checkpoint, monkeypatch):
    """Of each loss, in the student's feature and in every parameter, with batch statistics.

    The autoencoder is left out of what compares with its output, which is detached.
    """
    if joined:
        monkeypatch.setattr(Bottleneck, 'MIN_PIXELS', 1)
    head, student, teacher, draws = small_case(
        **KINDS[kind], checkpoint=checkpoint, monkeypatch=monkeypatch
    )
    encoder = set() if head.autoencoder is None else set(head.autoencoder.parameters())
    others = [p for p in head.parameters() if p not in encoder]

    def compared(*_):
        # The parameters themselves are what gradcheck changes.
        return losses_of(head, student, teacher, draws)[:2]

    assert gradcheck(compared, (student, *others))
    if encoder:
        assert gradcheck(lambda *_: losses_of(head, student, teacher, draws)[2], tuple(encoder))


@pytest.mark.parametrize('kind', ['maps', 'vectors'])
def test_gradients_of_gradients_of_a_plain_head(kind, monkeypatch):
    head, student, teacher, draws = small_case(**KINDS[kind], monkeypatch=monkeypatch)
    assert gradgradcheck(lambda _: losses_of(head, student, teacher, draws), (student,))


@pytest.mark.parametrize('kernel_size', [1, 3])
def test_noise_adapter(kernel_size):
    torch.manual_seed(0)
    adapter = NoiseAdapter(4, kernel_size, reduction=2).double()
    x = torch.randn(3, 4, *((1, 1) if kernel_size == 1 else (2, 3))).double().requires_grad_()
    assert gradcheck(lambda *_: adapter(x), (x, *adapter.parameters()))


@st.composite
def normalised_convolutions(draw):
    """Maps, a convolution and a batch norm; with more than one value per channel."""
    num, height, width = draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)))
    num += num * height * width == 1
    narrow, wide = draw(st.tuples(st.integers(1, 4), st.integers(1, 6)))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    conv = nn.Conv2d(narrow, wide, 1).double()
    norm = nn.BatchNorm2d(
        wide, eps=draw(st.sampled_from([1e-5, 1e-2])), momentum=draw(st.sampled_from([0.1, 0.9]))
    ).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x, hidden = (torch.randn(num, c, height, width).double() for c in (wide, narrow))
    if draw(st.booleans()):
        hidden = hidden.contiguous(memory_format=torch.channels_last)
    return x.requires_grad_(), hidden.requires_grad_(), conv, norm


@settings(max_examples=60)
@given(normalised_convolutions())
def test_normalised_convolution_of_any_size(inputs):
    """Output, gradients and running statistics are those of the two modules."""
    x, hidden, conv, norm = inputs
    tensors = (x, hidden, *conv.parameters(), *norm.parameters())
    results = []
    for function in (normalized_conv_add, lambda x, hidden, conv, norm: x + norm(conv(hidden))):
        norm.reset_running_stats()
        output = function(x, hidden, conv, norm)
        gradients = torch.autograd.grad(output.sin().sum(), tensors)
        results.append((output, gradients, [buffer.clone() for buffer in norm.buffers()]))
    # Two equal values have no variance, and the gradient is divided by the root of eps.
    torch.testing.assert_close(results[0], results[1], rtol=1e-8, atol=1e-8)


@settings(max_examples=15)
@given(normalised_convolutions())
def test_normalised_convolution_against_finite_differences(inputs):
    x, hidden, conv, norm = inputs
    tensors = (x, hidden, *conv.parameters(), *norm.parameters())
    assert gradcheck(lambda *_: normalized_conv_add(x, hidden, conv, norm), tensors, atol=1e-4)
