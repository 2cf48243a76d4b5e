"""Gradients of small heads are those of finite differences, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from mmdiffkd.diffusion import DiffKDHead, NoiseAdapter

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
    own = [output.losses[name] for name in ('diff', 'ae') if name in output.losses]
    return F.mse_loss(output.refined, output.target), *own


@pytest.mark.parametrize('checkpoint', [False, True], ids=['kept', 'checkpoint'])
@pytest.mark.parametrize('kind', KINDS)
def test_head(kind, checkpoint, monkeypatch):
    """Of each loss, in the student's feature and in every parameter, with batch statistics.

    The autoencoder is left out of what compares with its output, which is detached.
    """
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
