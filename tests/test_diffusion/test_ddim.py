"""The noise schedule and DDIM sampling, against diffusers."""

import math

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


@st.composite
def chains(draw, max_length=2000, max_steps=25):
    """Length of a chain and a number of steps that fit in half of it, mostly not dividing it."""
    length = draw(st.integers(2, max_length))
    return length, draw(st.integers(1, min(max_steps, length // 2)))


seeds = st.integers(0, 2**31)


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
        with pytest.raises(ValueError, match='num_steps must be'):
            DiffKDHead(2, 2, num_steps=num_steps, num_train_timesteps=length)


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
    steps = ddim_steps(linear_alphas_cumprod(length), sampling_timesteps(length, num_steps))
    ours = ddim_denoise(lambda x, t: torch.cos(x + t), x, steps)
    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8)


@settings(max_examples=30)
@given(chains(), seeds)
def test_perfect_noise_prediction_recovers_the_clean_sample(chain, seed):
    length, num_steps = chain
    generator = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64, generator=generator)
    levels = linear_alphas_cumprod(length)
    steps = ddim_steps(levels, sampling_timesteps(len(levels), num_steps))
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


def test_our_schedule_is_that_of_diffusers():
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule='linear')
    torch.testing.assert_close(linear_alphas_cumprod().float(), scheduler.alphas_cumprod)


def test_sample_keeps_its_precision_when_the_predictor_works_in_half():
    x = torch.randn(1, 2, 3, 3)
    steps = ddim_steps(linear_alphas_cumprod(), sampling_timesteps(1000, 5))
    assert ddim_denoise(lambda x, t: x.bfloat16(), x, steps).dtype == torch.float32
