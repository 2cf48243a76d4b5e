"""The sweep over noise levels measures the denoising of the head itself."""

import numpy as np
import pytest
import torch
from _noise_sweep import noise_sweep_figure, sweep_noise

from mmdiffkd.diffusion import DiffKDHead, ddim_denoise
from mmdiffkd.visualization import to_image

TIMESTEPS = [0, 200, 400, 999]


def sweep_of(head, target, timesteps=TIMESTEPS):
    torch.manual_seed(3)
    return sweep_noise(head, target, timesteps)


@pytest.fixture
def head():
    torch.manual_seed(0)
    return DiffKDHead(student_channels=4, teacher_channels=6).double()


@pytest.fixture
def target():
    return torch.randn(2, 6, 8, 8, dtype=torch.float64)


class Oracle(torch.nn.Module):
    """Knows the feature, hence the noise in everything made of it."""

    def __init__(self, head, target):
        super().__init__()
        self.head, self.target = [head], target

    def forward(self, x, timestep):
        (head,) = self.head
        return (x - head.signal_scale[timestep] * self.target) / head.noise_scale[timestep]


def test_perfect_noise_predictor_brings_the_feature_back(head, target):
    head.denoiser = Oracle(head, target)
    sweep = sweep_of(head, target)
    assert sweep.relative_error(sweep.denoised).max() < 1e-6
    assert sweep.prediction_error.max() < 1e-6
    noisy = sweep.relative_error(sweep.noisy)
    assert (np.diff(noisy) > 0).all()
    # At the end of the chain there is noise alone: its variance, and the feature that is missing.
    variance = target.var(dim=(0, 2, 3), unbiased=False).mean()
    assert noisy[-1] == pytest.approx(float((1 + target.square().mean()) / variance), rel=0.05)


def test_steps_are_those_of_training(head, target):
    """From the level where students start, as ``refine`` between mixing and projection."""
    sweep = sweep_of(head, target)
    assert sweep.start == head.steps[0].timestep == 400
    noisy = torch.from_numpy(sweep.noisy[2]).double()
    with torch.no_grad():
        expected = ddim_denoise(head.denoiser.train(), noisy, head.steps)
    np.testing.assert_allclose(sweep.denoised[2], expected.numpy(), rtol=1e-4, atol=1e-4)


def test_head_stays_as_it_is(head, target):
    head.eval()
    before = {name: value.clone() for name, value in head.state_dict().items()}
    sweep_of(head, target)
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
    assert not any(module.training for module in head.modules())


@pytest.mark.parametrize('size, kernel_size', [(8, 3), (1, 1)])
def test_figure(size, kernel_size):
    head = DiffKDHead(student_channels=4, teacher_channels=6, kernel_size=kernel_size)
    sweep = sweep_of(head, torch.randn(4, 6, size, size))
    figure = noise_sweep_figure('Pair', [sweep, sweep])
    prediction, feature, *maps = figure.axes
    np.testing.assert_array_equal(prediction.lines[0].get_ydata(), sweep.prediction_error)
    assert len([axes for axes in maps if axes.images or axes.patches]) == 2 * 7
    assert to_image(figure).std() > 10
