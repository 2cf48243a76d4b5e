"""What the heads compute stays the same, whatever it costs; bytes and operations are counted."""

import copy

import pytest
import torch
import torch.nn.functional as F
from measuring import KeptForBackward
from naive_head import NaiveDiffKDHead

from mmdiffkd.diffusion import DiffKDHead

KINDS = [dict(), dict(ae_channels=8), dict(kernel_size=1), dict(detach_denoiser=True)]
# Of an FPN for images of 320x320.
PYRAMID = (40, 20, 10, 5, 3)


def features(kind, num=2, size=(6, 5)):
    torch.manual_seed(0)
    size = (1, 1) if kind.get('kernel_size') == 1 else size
    student = torch.randn(num, 12, *size, dtype=torch.float64, requires_grad=True)
    return student, torch.randn(num, 16, *size, dtype=torch.float64)


def loss_of(head, student, teacher):
    output = head(student, teacher, generator=torch.Generator().manual_seed(1))
    loss = F.mse_loss(output.refined, output.target) + output.losses['diff']
    return loss if 'ae' not in output.losses else loss + output.losses['ae']


def train_step(head, student, teacher):
    """Loss, the gradients of student and parameters, and the buffers afterwards."""
    student.grad = None
    head.zero_grad()
    loss = loss_of(head, student, teacher)
    loss.backward()
    gradients = [student.grad, *(p.grad for p in head.parameters())]
    return loss, gradients, [buffer.clone() for buffer in head.buffers()]


@pytest.mark.parametrize('kind', KINDS)
def test_checkpoint_changes_nothing(kind):
    student, teacher = features(kind, num=4)
    plain = DiffKDHead(12, 16, **kind).double()
    lean = DiffKDHead(12, 16, checkpoint=True, **kind).double()
    lean.load_state_dict(plain.state_dict())
    for expected, ours in zip(*(train_step(h, student, teacher) for h in (plain, lean))):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_checkpoint_under_autocast(dtype):
    """Backward runs outside of autocast; what it computes again must not."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 12, 6, 5, requires_grad=True), torch.randn(2, 16, 6, 5)
    plain = DiffKDHead(12, 16)
    lean = DiffKDHead(12, 16, checkpoint=True)
    lean.load_state_dict(plain.state_dict())
    gradients = []
    for head in (plain, lean):
        student.grad = None
        with torch.autocast('cpu', dtype):
            loss = loss_of(head, student, teacher)
        loss.backward()
        gradients.append([student.grad, *(p.grad for p in head.parameters())])
    for expected, ours in zip(*gradients):
        # Sums over passes are rounded elsewhere: autocast shares one half-precision weight.
        assert (ours - expected).norm() <= 0.05 * expected.norm() + 1e-3


def test_checkpoint_leaves_batch_statistics_of_one_run():
    """Also those of a denoiser whose running statistics autograd keeps for later steps."""
    student, teacher = features(dict())
    plain = DiffKDHead(12, 16).double()
    lean = DiffKDHead(12, 16, checkpoint=True).double()
    lean.load_state_dict(plain.state_dict())
    before = plain.denoiser.network[0].block[1].running_mean.clone()
    for head in (plain, lean):
        train_step(head, student, teacher)
    assert not torch.equal(plain.denoiser.network[0].block[1].running_mean, before)
    for expected, buffer in zip(plain.buffers(), lean.buffers()):
        torch.testing.assert_close(buffer, expected)


def kept_bytes(build):
    """By five heads of 256 channels on the maps of an FPN, two images of 320x320."""
    torch.manual_seed(0)
    heads = torch.nn.ModuleList(build(256, 256) for _ in PYRAMID)
    with KeptForBackward(heads.parameters()) as kept:
        losses = []
        for head, side in zip(heads, PYRAMID):
            student = torch.randn(2, 256, side, side, requires_grad=True)
            teacher = torch.randn(2, 256, side, side).to(memory_format=torch.channels_last)
            output = head(student, teacher)
            losses.append(F.mse_loss(output.refined, output.target) + output.losses['diff'])
    return kept.num_bytes


def test_bytes_kept_for_backward():
    naive = kept_bytes(NaiveDiffKDHead)
    assert kept_bytes(DiffKDHead) < naive
    assert kept_bytes(lambda *channels: DiffKDHead(*channels, checkpoint=True)) <= 0.25 * naive


@pytest.mark.parametrize('checkpoint', [False, True])
@pytest.mark.parametrize('kind', KINDS)
def test_no_synchronisation_and_no_tables_in_a_step(operations, kind, checkpoint):
    """No value is read, and nothing is made that would have to be copied to the device."""
    head = DiffKDHead(12, 16, checkpoint=checkpoint, **kind)
    size = (1, 1) if kind.get('kernel_size') == 1 else (6, 5)
    student = torch.randn(2, 12, *size, requires_grad=True)
    teacher = torch.randn(2, 16, *size)
    with operations:
        output = head(student, teacher)
        (F.mse_loss(output.refined, output.target) + output.losses['diff']).backward()
    names = operations.names
    assert names.count('convolution') + names.count('addmm') > 10
    forbidden = {
        '_local_scalar_dense', 'item', 'nonzero', 'is_nonzero', '_to_copy', 'lift_fresh', 'tensor',
        'arange', 'linspace', 'cumprod', 'scalar_tensor',
    }  # fmt: skip
    assert not forbidden & set(names), forbidden & set(names)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: sync debug mode is CUDA's")
@pytest.mark.parametrize('checkpoint', [False, True])
def test_no_synchronisation_on_a_gpu(checkpoint):
    head = DiffKDHead(12, 16, checkpoint=checkpoint).cuda()
    student = torch.randn(2, 12, 6, 5, device='cuda', requires_grad=True)
    teacher = torch.randn(2, 16, 6, 5, device='cuda')
    for mode in ('default', 'error'):  # the first step may wait: cuDNN chooses its algorithms
        torch.cuda.set_sync_debug_mode(mode)
        try:
            with torch.autocast('cuda', torch.bfloat16):
                output = head(student, teacher)
                loss = F.mse_loss(output.refined, output.target) + output.losses['diff']
            loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode('default')


@pytest.mark.slow
@pytest.mark.parametrize('detach, graphs', [(False, 1), (True, 2)])
def test_compiled_noise_predictor(detach, graphs):
    """The same numbers, and the same code for every level and image size.

    torch 2.14 compiles the backward of a convolution for one size alone.
    """
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    torch.manual_seed(0)
    plain = DiffKDHead(12, 16, detach_denoiser=detach)
    # 8x6 first: only from the first map that is not square on, height and width are told apart.
    sizes = ((8, 6), (4, 4), (5, 2), (9, 7))
    for height, width in sizes:
        compiled = DiffKDHead(12, 16, compile=True, detach_denoiser=detach)
        compiled.load_state_dict(plain.state_dict())
        student = torch.randn(2, 12, height, width, requires_grad=True)
        teacher = torch.randn(2, 16, height, width)
        results = [train_step(head, student, teacher) for head in (copy.deepcopy(plain), compiled)]
        for ours, expected in zip(*results):
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)
    versions = 1 if torch.__version__ < (2, 14) else len(sizes)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == graphs * versions
