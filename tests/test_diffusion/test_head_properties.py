"""Heads of any widths on maps of any size, against the head written the naive way."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_head import NaiveDiffKDHead

from mmdiffkd.diffusion import AlignHead, DiffKDHead, linear_alphas_cumprod

seeds = st.integers(0, 2**31)


@st.composite
def cases(draw, min_values=1):
    """Arguments of a head, and the shape (N, H, W) of a batch of maps for it."""
    kind = dict(
        student_channels=draw(st.integers(1, 9)),
        teacher_channels=draw(st.integers(1, 9)),
        kernel_size=draw(st.sampled_from([1, 3])),
        ae_channels=draw(st.none() | st.integers(1, 6)),
        num_steps=draw(st.integers(1, 6)),
        num_train_timesteps=draw(st.sampled_from([12, 17, 100, 1000, 1300])),
        reduction=draw(st.integers(1, 12)),
        adapter_reduction=draw(st.integers(1, 12)),
    )
    num, height, width = draw(st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)))
    if kind['kernel_size'] == 1:
        height = width = 1
    while num * height * width < min_values:
        num += 1
    return kind, (num, height, width)


def features(kind, shape, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    num, *size = shape
    return tuple(
        torch.randn(num, kind[f'{role}_channels'], *size, dtype=dtype, generator=generator)
        for role in ('student', 'teacher')
    )


def draws(kind, shape, seed, dtype=torch.float64):
    """The random numbers of one forward."""
    generator = torch.Generator().manual_seed(seed + 1)
    num, *size = shape
    width = kind['ae_channels'] or kind['teacher_channels']
    noises = torch.randn(2, num, width, *size, dtype=dtype, generator=generator)
    timesteps = torch.randint(kind['num_train_timesteps'], (num,), generator=generator)
    return dict(student_noise=noises[0], diffusion_noise=noises[1], timesteps=timesteps)


def tensors_of(output):
    return {'refined': output.refined, 'target': output.target, **output.losses, **output.stats}


def total(output):
    losses = [F.mse_loss(output.refined, output.target), output.losses['diff']]
    return sum(losses) + (output.losses.get('ae', 0))


LAYOUTS = dict(
    contiguous=lambda x: x,
    channels_last=lambda x: x.contiguous(memory_format=torch.channels_last),
    strided=lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    every_second=lambda x: x.repeat_interleave(2, dim=3)[..., ::2],
)


@settings(max_examples=60)
@given(cases(), seeds, st.sampled_from(sorted(LAYOUTS)), st.booleans(), st.booleans())
def test_shapes_dtypes_and_gradients(case, seed, layout, double, checkpoint):
    kind, shape = case
    dtype = torch.float64 if double else torch.float32
    head = DiffKDHead(**kind, checkpoint=checkpoint).to(dtype)
    student, teacher = (LAYOUTS[layout](x) for x in features(kind, shape, seed, dtype))
    student.requires_grad_(), teacher.requires_grad_()
    output = head(student, teacher)
    num, *size = shape
    expected = (num, kind['ae_channels'] or kind['teacher_channels'], *size)
    for feature in (output.refined, output.target, output.aligned):
        assert feature.shape == expected and feature.dtype == dtype
    assert output.stats['gamma'].shape == (num,) and output.stats['gamma'].dtype == dtype
    assert ((output.stats['gamma'] > 0) & (output.stats['gamma'] < 1)).all()
    assert ('ae' not in output.losses) == (kind['ae_channels'] is None)
    for loss in output.losses.values():
        assert loss is None or (loss.shape == () and loss.dtype == dtype and loss >= 0)
    total(output).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in head.parameters())
    assert student.grad.shape == student.shape and student.grad.isfinite().all()
    assert teacher.grad is None


@settings(max_examples=20)
@given(cases(), seeds, st.sampled_from([torch.float16, torch.bfloat16]), st.booleans())
def test_half_precision_maps_under_autocast(case, seed, dtype, checkpoint):
    """As hosts yield them with ``--amp``: what is compared and all losses are float32."""
    kind, shape = case
    student, teacher = (x.to(dtype).requires_grad_() for x in features(kind, shape, seed))
    with torch.autocast('cpu', dtype=dtype):
        for head in (
            DiffKDHead(**kind, checkpoint=checkpoint),
            AlignHead(kind['student_channels'], kind['teacher_channels']),
        ):
            values = list(tensors_of(head(student, teacher)).values())
            assert {value.dtype for value in values} == {torch.float32}
            assert all(value.isfinite().all() for value in values)


@settings(max_examples=40)
@given(cases(min_values=2), seeds, st.booleans())
def test_computes_what_the_naive_head_does(case, seed, training):
    """Outputs, losses, all gradients and the running statistics, in float64."""
    kind, shape = case
    head, naive = (
        build(**kind).double().train(training) for build in (DiffKDHead, NaiveDiffKDHead)
    )
    naive.load_state_dict(head.state_dict())
    # diffusers computes its schedule in float32.
    naive.scheduler.alphas_cumprod = linear_alphas_cumprod(kind['num_train_timesteps'])
    results = []
    for module in (head, naive):
        student, teacher = features(kind, shape, seed, torch.float64)
        student.requires_grad_()
        output = module(student, teacher, **draws(kind, shape, seed))
        total(output).backward()
        gradients = {name: p.grad for name, p in module.named_parameters()}
        buffers = {k: v for k, v in module.state_dict().items() if 'running' in k}
        results.append((tensors_of(output), student.grad, gradients, buffers))
    # The scales of the diffusion loss are float32 in a head that is cast to float64.
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


@settings(max_examples=30)
@given(cases(min_values=2), seeds)
def test_float32_is_close_to_float64(case, seed):
    """Within rounding of what depends on nothing but the weights: batch norms do not amplify it."""
    kind, shape = case
    single = DiffKDHead(**kind).eval()
    double = DiffKDHead(**kind).double().eval()
    double.load_state_dict(single.state_dict())
    given_draws = draws(kind, shape, seed, torch.float32)
    ours = single(*features(kind, shape, seed), **given_draws)
    given_draws.update({k: v.double() for k, v in given_draws.items() if v.is_floating_point()})
    exact = double(*(x.double() for x in features(kind, shape, seed)), **given_draws)
    ours = tensors_of(ours)
    for name, value in tensors_of(exact).items():
        error = (ours[name].double() - value).abs().max()
        assert error <= 1e-5 * value.abs().max(), name
