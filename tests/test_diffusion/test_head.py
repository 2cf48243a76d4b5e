import subprocess
import sys

import pytest
import torch
from torch import nn

from mmdiffkd.diffusion import AlignHead, Denoiser, DiffKDHead, NoiseAdapter
from mmdiffkd.diffusion.ddim import ddim_denoise
from mmdiffkd.diffusion.head import normal_like


def features(shape, student_channels=4, teacher_channels=6):
    torch.manual_seed(0)
    batch, height, width = shape
    return (
        torch.randn(batch, student_channels, height, width, requires_grad=True),
        torch.randn(batch, teacher_channels, height, width, requires_grad=True),
    )


def test_noise_does_not_depend_on_the_memory_format():
    x = torch.randn(2, 6, 4, 5)
    last = x.contiguous(memory_format=torch.channels_last)
    draws = [normal_like(it, torch.Generator().manual_seed(0)) for it in (x, last)]
    assert torch.equal(*draws) and draws[1].stride() == last.stride()


def test_head_of_vectors_refuses_maps():
    with pytest.raises(ValueError, match='kernel_size=1 is for vectors .* 3 for maps of 6x8'):
        DiffKDHead(4, 6, kernel_size=1)(*features((2, 6, 8)))


def test_autoencoder_learns_from_reconstruction_alone():
    """Neither the distance nor the noise prediction reaches the encoder."""
    student, teacher = features((2, 6, 8))
    head = DiffKDHead(4, 6, ae_channels=3)
    output = head(student, teacher)
    ((output.refined - output.target).square().mean() + output.losses['diff']).backward()
    assert all(p.grad is None for p in head.autoencoder.parameters())
    for module in (head.align, head.noise_adapter, head.denoiser, head.projection):
        assert all(p.grad is not None for p in module.parameters())
    head.zero_grad()
    head(student, teacher).losses['ae'].backward()
    assert all(p.grad is not None for p in head.autoencoder.parameters())


def test_distance_reaches_the_student_through_every_step():
    """With K steps the denoiser runs K times on the way, and all carry gradient."""
    student, teacher = features((2, 4, 4))
    head = DiffKDHead(4, 6, num_steps=3)
    rows = []
    head.denoiser.time_embedding.weight.register_hook(
        lambda grad: rows.extend(grad.abs().sum(1).nonzero().flatten().tolist())
    )
    (head.refine(head.align(student))[0] - teacher.detach()).square().mean().backward()
    assert sorted(rows) == [step.timestep for step in reversed(head.steps)]
    for module in (head.align, head.noise_adapter, head.denoiser, head.projection):
        assert all(p.grad is not None for p in module.parameters())
    assert student.grad.abs().sum() > 0


def test_weights_scale_their_losses():
    student, teacher = features((2, 4, 4))
    plain = DiffKDHead(4, 6, ae_channels=3)
    weighted = DiffKDHead(4, 6, ae_channels=3, diffusion_weight=3.0, ae_weight=0.5)
    weighted.load_state_dict(plain.state_dict())
    first, second = (
        head(student, teacher, torch.Generator().manual_seed(5)) for head in (plain, weighted)
    )
    torch.testing.assert_close(second.losses['diff'], 3 * first.losses['diff'])
    torch.testing.assert_close(second.losses['ae'], 0.5 * first.losses['ae'])
    torch.testing.assert_close(second.refined, first.refined)


def test_randomness_comes_from_where_it_should():
    """The default generator, or the one given; nothing is seeded."""
    student, teacher = features((2, 4, 4))
    head = DiffKDHead(4, 6).eval()

    def refined(generator=None):
        output = head(student, teacher, generator)
        return torch.cat([output.refined.flatten(), output.losses['diff'][None]])

    torch.manual_seed(3)
    first = refined()
    assert not torch.equal(first, refined())
    torch.manual_seed(3)
    assert torch.equal(first, refined())
    state = torch.get_rng_state()
    given = [refined(torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*given)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize('sqrt_mixing', [False, True])
@pytest.mark.parametrize('gamma', [0, 0.36, 1.0])
def test_fixed_gamma(gamma, sqrt_mixing):
    """It mixes in place of the noise adapter, and has no parameters."""
    student, teacher = features((2, 4, 4))
    head = DiffKDHead(4, 6, gamma=gamma, sqrt_mixing=sqrt_mixing).eval()
    noise = torch.randn(2, 6, 4, 4)
    output = head(student, teacher, student_noise=noise)
    assert not [name for name in head.state_dict() if 'adapter' in name]
    torch.testing.assert_close(output.stats['gamma'], torch.full((2,), float(gamma)))
    keep, add = (gamma**0.5, (1 - gamma) ** 0.5) if sqrt_mixing else (gamma, 1 - gamma)
    mixed = keep * head.align(student) + add * noise
    denoised = ddim_denoise(head.predict_noise, mixed, head.steps)
    torch.testing.assert_close(output.refined, head.projection(denoised))


def test_learned_gamma_at_its_limits_has_a_slope_with_roots():
    student, teacher = features((2, 4, 4))
    for bias in (-200.0, 200.0):
        head = DiffKDHead(4, 6, sqrt_mixing=True)
        nn.init.zeros_(head.noise_adapter.classifier.weight)
        head.noise_adapter.classifier.bias = nn.Parameter(torch.tensor([bias, 0.0]))
        head(student, teacher).refined.square().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())
        assert head.noise_adapter.classifier.bias.grad is not None


@pytest.mark.parametrize('kind', [dict(), dict(checkpoint=True), dict(kernel_size=1)])
def test_denoiser_that_learns_from_its_own_loss_alone(kind):
    """The distance passes through it as before, but changes its weights no more."""
    student, teacher = features((3, 1, 1) if kind.get('kernel_size') == 1 else (2, 4, 4))
    plain, detached = DiffKDHead(4, 6, **kind), DiffKDHead(4, 6, detach_denoiser=True, **kind)
    detached.load_state_dict(plain.state_dict())
    gradients, buffers = [], []
    for head in (plain, detached):
        student.grad = None
        output = head(student, teacher, torch.Generator().manual_seed(0))
        (output.refined - output.target).square().mean().backward(retain_graph=True)
        learned = [p.grad for p in head.denoiser.parameters()]
        assert all(grad is None for grad in learned) == (head is detached)
        others = (head.align, head.noise_adapter, head.projection)
        gradients.append([student.grad, *(p.grad for m in others for p in m.parameters())])
        output.losses['diff'].backward()
        assert all(p.grad is not None for p in head.parameters())
        buffers.append(list(head.buffers()))
    torch.testing.assert_close(*gradients)
    # Batch norms see all of the steps, as without the option.
    torch.testing.assert_close(*buffers)


def test_tables_stay_out_of_the_state_dict():
    assert not [key for key in DiffKDHead(4, 6).state_dict() if 'scale' in key]


def test_embedding_covers_long_chains():
    head = DiffKDHead(2, 2, num_train_timesteps=2000)
    assert head.denoiser.time_embedding.num_embeddings == 2000
    assert DiffKDHead(2, 2).denoiser.time_embedding.num_embeddings == 1280


@pytest.mark.parametrize('kernel_size', [1, 3])
def test_timesteps_as_integer_or_tensor(kernel_size):
    size = 1 if kernel_size == 1 else 4
    denoiser = Denoiser(6, kernel_size).eval()
    x = torch.randn(3, 6, size, size)
    torch.testing.assert_close(denoiser(x, 17), denoiser(x, torch.tensor([17, 17, 17])))


def test_gamma_is_per_image():
    adapter = NoiseAdapter(16).eval()
    x = torch.randn(4, 16, 5, 5)
    torch.testing.assert_close(adapter(x)[2:3], adapter(x[2:3]))


def test_align_head():
    student, teacher = features((2, 6, 8))
    head = AlignHead(4, 6)
    output = head(student, teacher)
    torch.testing.assert_close(output.refined, head.align(student))
    torch.testing.assert_close(output.target, teacher.detach())
    assert not output.losses and not output.stats
    assert not output.target.requires_grad


@pytest.mark.parametrize(
    'wrong',
    [
        dict(kernel_size=5),
        dict(ae_channels=0),
        dict(num_steps=0),
        dict(num_steps=501),
        dict(gamma=1.1),
    ],  # fmt: skip
)
def test_wrong_arguments_are_named(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f'{name}.*{value}'):
        DiffKDHead(4, 6, **wrong)


def test_needs_torch_alone():
    """The diffusion part can be used, and timed, where no OpenMMLab library is installed."""
    code = (
        'import sys\n'
        "hosts = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')\n"
        'sys.modules.update(dict.fromkeys(hosts))\n'
        'import mmdiffkd.capture, mmdiffkd.losses\n'
        'from mmdiffkd.diffusion import DiffKDHead\n'
        'import torch\n'
        'DiffKDHead(2, 3)(torch.zeros(2, 2, 4, 4), torch.zeros(2, 3, 4, 4))\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
