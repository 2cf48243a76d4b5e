"""Sampling for any length of the chain and any number of steps, against the textbook's formulas."""

import math
from decimal import Decimal, localcontext

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmdiffkd.diffusion import (
    DiffKDHead,
    add_noise,
    ddim_denoise,
    ddim_steps,
    linear_alphas_cumprod,
    sampling_timesteps,
)

# Half the distance of 1 to the next float32.
ROUNDING = 2.0**-24


@st.composite
def chains(draw, max_length=2000, max_steps=25):
    """Length of a chain and a number of steps that fit in half of it, mostly not dividing it."""
    length = draw(st.integers(2, max_length))
    return length, draw(st.integers(1, min(max_steps, length // 2)))


seeds = st.integers(0, 2**31)


def exact_levels(length):
    """``alphas_cumprod`` of the linear schedule, in the digits of the decimal context."""
    first, last = Decimal('1e-4'), Decimal('0.02')
    levels, level = [], Decimal(1)
    for t in range(length):
        level *= 1 - (first + (last - first) * t / (length - 1))
        levels.append(level)
    return levels


def textbook_step(x, noise, level, next_level, sqrt=math.sqrt):
    """DDIM with eta = 0: predict the clean sample, go from it towards the predicted noise."""
    clean = (x - sqrt(1 - level) * noise) / sqrt(level)
    direction = sqrt(1 - next_level) * noise
    return sqrt(next_level) * clean + direction


def textbook_denoise(predict_noise, x, length, num_steps):
    """K steps from the middle of the chain to its clean end."""
    betas = [1e-4 + (0.02 - 1e-4) * t / (length - 1) for t in range(length)]
    levels = [math.prod(1 - beta for beta in betas[: t + 1]) for t in range(length)]
    stride = length // (2 * num_steps)
    for index in range(num_steps - 1, -1, -1):
        t = index * stride
        next_level = levels[t - stride] if index > 0 else 1.0
        x = textbook_step(x, predict_noise(x, t), levels[t], next_level)
    return x


@given(chains(max_length=10**6, max_steps=10**6))
def test_timesteps(chain):
    """Equal strides through the cleaner half, down to 0, whatever divides what."""
    length, num_steps = chain
    timesteps = sampling_timesteps(length, num_steps)
    assert len(timesteps) == num_steps and timesteps[-1] == 0
    stride = length // (2 * num_steps)
    assert all(a - b == stride >= 1 for a, b in zip(timesteps, timesteps[1:]))
    assert timesteps[0] + stride <= length / 2


@given(st.integers(0, 2000), st.integers(-5, 2000))
def test_steps_that_do_not_fit_are_refused(length, num_steps):
    assume(not 1 <= num_steps <= length / 2)
    with pytest.raises(ValueError, match=f'num_steps must be .* = {length // 2}, got {num_steps}'):
        sampling_timesteps(length, num_steps)
    if length > 0:
        with pytest.raises(ValueError, match='num_steps must be between'):
            DiffKDHead(2, 2, num_steps=num_steps, num_train_timesteps=length)


@settings(max_examples=25)
@given(chains())
def test_coefficients_have_all_digits_of_float64(chain):
    """The textbook's step is linear: it is put together from 50-digit numbers and compared."""
    length, num_steps = chain
    steps = ddim_steps(linear_alphas_cumprod(length), num_steps)
    with localcontext() as context:
        context.prec = 50
        levels = exact_levels(length)
        targets = [*(levels[step.timestep] for step in steps[1:]), Decimal(1)]
        for step, target in zip(steps, targets):
            level = levels[step.timestep]
            expected = [
                textbook_step(Decimal(x), Decimal(noise), level, target, Decimal.sqrt)
                for x, noise in ((1, 0), (0, 1))
            ]
            assert float(expected[0]) == pytest.approx(step.x_scale, rel=1e-13)
            # A difference of two numbers, neither larger than 1.
            assert float(expected[1]) == pytest.approx(step.noise_scale, rel=1e-11, abs=1e-13)


@settings(max_examples=40)
@given(chains(), seeds)
def test_denoising_is_the_textbook_s(chain, seed):
    """In float64, with a noise predictor that depends on sample and timestep."""
    length, num_steps = chain
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=generator)

    def predict_noise(x, t):
        return torch.sin(3 * x + t) + 0.5 * x

    steps = ddim_steps(linear_alphas_cumprod(length), num_steps)
    ours = ddim_denoise(predict_noise, x, steps)
    expected = textbook_denoise(predict_noise, x, length, num_steps)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=25)
@given(chains(), seeds)
def test_denoising_is_that_of_diffusers(chain, seed):
    """Also where the number of steps does not divide the chain."""
    length, num_steps = chain
    x = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    scheduler = DDIMScheduler(
        num_train_timesteps=length,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule='linear',
        clip_sample=False,
        timestep_spacing='leading',
    )
    # Its own are float32.
    scheduler.alphas_cumprod = linear_alphas_cumprod(length)
    scheduler.set_timesteps(2 * num_steps)
    expected = x
    for t in scheduler.timesteps[num_steps:]:
        expected = scheduler.step(torch.cos(expected + t), t, expected).prev_sample
    steps = ddim_steps(linear_alphas_cumprod(length), num_steps)
    ours = ddim_denoise(lambda x, t: torch.cos(x + t), x, steps)
    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8)


@settings(max_examples=50)
@given(chains(), seeds, st.sampled_from([1e-3, 1.0, 1e4]))
def test_float32_is_as_exact_as_its_rounding(chain, seed, size):
    """No element is further from float64 than the roundings of two multiply-adds can bring it."""
    length, num_steps = chain
    generator = torch.Generator().manual_seed(seed)
    x = size * torch.randn(2, 3, 4, 4, generator=generator)
    noises = [torch.randn(2, 3, 4, 4, generator=generator) for _ in range(num_steps)]
    steps = ddim_steps(linear_alphas_cumprod(length), num_steps)
    timesteps = [step.timestep for step in steps]

    ours = ddim_denoise(lambda x, t: noises[timesteps.index(t)], x, steps)
    exact, bound = x.double(), torch.zeros_like(x, dtype=torch.float64)
    for step, noise in zip(steps, noises):
        parts = step.x_scale * exact, step.noise_scale * noise.double()
        # Each factor is rounded once, each product once, their sum once.
        magnitude = parts[0].abs() + step.x_scale * bound + parts[1].abs()
        bound = step.x_scale * bound + 3.01 * ROUNDING * magnitude
        exact = sum(parts)
    assert ours.dtype == torch.float32
    assert ((ours.double() - exact).abs() <= bound).all()
    plain = textbook_denoise(
        lambda x, t: noises[timesteps.index(t)].double(), x.double(), length, num_steps
    )
    torch.testing.assert_close(exact, plain, rtol=1e-9, atol=1e-9 * size)


@settings(max_examples=30)
@given(chains(), seeds)
def test_perfect_noise_prediction_recovers_the_clean_sample(chain, seed):
    length, num_steps = chain
    generator = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64, generator=generator)
    levels = linear_alphas_cumprod(length)
    steps = ddim_steps(levels, num_steps)
    start = levels[steps[0].timestep].expand(2)
    noisy = add_noise(clean, noise, start.sqrt(), (1 - start).sqrt())
    torch.testing.assert_close(
        ddim_denoise(lambda x, t: noise, noisy, steps), clean, rtol=1e-8, atol=1e-8
    )


@given(
    st.lists(st.integers(0, 999), min_size=1, max_size=4),
    st.lists(st.integers(1, 4), max_size=3),
    seeds,
)
def test_noise_is_added_to_each_image_by_its_own_level(timesteps, shape, seed):
    generator = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, len(timesteps), *shape, dtype=torch.float64, generator=generator)
    levels = linear_alphas_cumprod()[timesteps]
    diffused = add_noise(clean, noise, levels.sqrt(), (1 - levels).sqrt())
    assert diffused.shape == clean.shape
    for image, level in enumerate(levels.tolist()):
        expected = math.sqrt(level) * clean[image] + math.sqrt(1 - level) * noise[image]
        torch.testing.assert_close(diffused[image], expected)


@given(st.integers(2, 3000))
def test_schedule_of_any_length(length):
    levels = linear_alphas_cumprod(length)
    assert levels.dtype == torch.float64 and levels.shape == (length,)
    assert levels[0] == 1 - 1e-4
    assert (levels.diff() < 0).all() and levels[-1] > 0
