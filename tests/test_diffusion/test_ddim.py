import pytest
import torch
from diffusers import DDIMScheduler

from mmdiffkd.diffusion import (
    Denoiser,
    ddim_denoise,
    ddim_steps,
    linear_alphas_cumprod,
    sampling_timesteps,
)


def test_default_timesteps():
    assert sampling_timesteps(1000, 5) == [400, 300, 200, 100, 0]


@pytest.mark.parametrize('num_steps', [0, -1, 501])
def test_impossible_number_of_steps_is_refused(num_steps):
    with pytest.raises(ValueError, match='between 1 and .* 500'):
        sampling_timesteps(1000, num_steps)


@pytest.mark.parametrize('num_steps', [1, 2, 3, 5, 10])
def test_agrees_with_diffusers(num_steps):
    """An independent implementation drives the same noise predictor."""
    torch.manual_seed(0)
    denoiser = Denoiser(8).double().eval()
    x = torch.randn(2, 8, 5, 7, dtype=torch.float64)
    scheduler = DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule='linear',
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing='leading',
    )
    scheduler.alphas_cumprod = linear_alphas_cumprod()
    scheduler.set_timesteps(2 * num_steps)
    expected = x
    for t in scheduler.timesteps[-num_steps:]:
        noise = denoiser(expected, t.expand(2))
        expected = scheduler.step(noise, t, expected).prev_sample

    ours = ddim_denoise(denoiser, x, ddim_steps(linear_alphas_cumprod(), num_steps))
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-8)


def test_our_schedule_is_that_of_diffusers():
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule='linear')
    torch.testing.assert_close(linear_alphas_cumprod().float(), scheduler.alphas_cumprod)


@pytest.mark.contract(9, 'precision')
def test_sample_keeps_its_precision_when_the_predictor_works_in_half():
    x = torch.randn(1, 2, 3, 3)
    steps = ddim_steps(linear_alphas_cumprod(), 5)
    assert ddim_denoise(lambda x, t: x.bfloat16(), x, steps).dtype == torch.float32
