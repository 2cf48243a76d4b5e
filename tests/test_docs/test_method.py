"""What docs/method.md says of the method is what the code does."""

import re

import pytest
import torch
from torch import nn

from mmdiffkd.diffusion import DiffKDHead
from mmdiffkd.losses import MSELoss

from .pages import DOCS

PAGE = (DOCS / 'method.md').read_text()


def table():
    """Rows of "What each loss updates": part to whether each of four losses updates it."""
    section = PAGE.partition('## What each loss updates')[2].partition('\n## ')[0]
    rows = [line.strip('| ').split(' | ') for line in section.splitlines() if line[:1] == '|']
    return {row[0]: [cell.startswith('yes') for cell in row[1:]] for row in rows[3:]}


@pytest.fixture
def parts():
    torch.manual_seed(0)
    head = DiffKDHead(student_channels=4, teacher_channels=6, ae_channels=8)
    return dict(
        before=nn.Conv2d(3, 4, 1), behind=nn.Conv2d(4, 1, 1), teacher=nn.Conv2d(3, 6, 1), head=head
    )


def test_table_of_updates(parts):
    images = torch.randn(2, 3, 4, 4)
    head = parts['head']
    feature = parts['before'](images)
    out = head(feature, parts['teacher'](images))
    losses = [
        parts['behind'](feature).square().mean(),
        MSELoss()(out.refined, out.target),
        out.losses['diff'],
        out.losses['ae'],
    ]
    modules = {
        'student, up to the paired module': parts['before'],
        'student, behind it': parts['behind'],
        'alignment $A$': head.align,
        'noise adapter': head.noise_adapter,
        r'noise predictor $\varphi$': head.denoiser,
        'projection $P$': head.projection,
        'autoencoder $E$, $R$': head.autoencoder,
        'teacher': parts['teacher'],
    }
    assert table().keys() == modules.keys()
    for column, loss in enumerate(losses):
        for name, module in modules.items():
            parameters = list(module.parameters())
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            updates = any(grad is not None and grad.abs().sum() > 0 for grad in gradients)
            assert table()[name][column] == updates, f'{name}, loss {column}'


def test_noise_level_at_which_denoising_starts():
    """The two numbers of the page, square roots of signal and noise power."""
    head = DiffKDHead(student_channels=1, teacher_channels=1)
    start = head.steps[0].timestep
    assert start == int(re.search(r'from \$t = (\d+)\$ down to 0', PAGE)[1])
    signal, noise = re.search(r'= ([\d.]+)\$ feature and ([\d.]+) noise', PAGE).groups()
    assert float(signal) == pytest.approx(float(head.signal_scale[start]), abs=0.005)
    assert float(noise) == pytest.approx(float(head.noise_scale[start]), abs=0.005)
