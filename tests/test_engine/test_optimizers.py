"""The optimizer of TensorFlow's recipes, worked out by hand."""

import subprocess
import sys

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmdiffkd.registry import OPTIMIZERS

SETTINGS = dict(lr=0.1, alpha=0.9, eps=1e-3, momentum=0.9, weight_decay=0.5)


def test_two_steps_by_hand():
    """From one, not zero; epsilon inside the root; the momentum holds scaled steps."""
    weight = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = OPTIMIZERS.build(dict(type='mmdiffkd.RMSpropTF', params=[weight], **SETTINGS))
    expected, mean_square, momentum = 2.0, 1.0, 0.0
    for lr, grad in ((0.1, 3.0), (0.02, -1.0)):
        optimizer.param_groups[0]['lr'] = lr
        weight.grad = torch.full_like(weight, grad)
        optimizer.step()
        decayed = grad + 0.5 * expected
        mean_square += (1 - 0.9) * (decayed**2 - mean_square)
        momentum = 0.9 * momentum + lr * decayed / (mean_square + 1e-3) ** 0.5
        expected -= momentum
        assert weight.item() == pytest.approx(expected, rel=1e-12)


def test_named_from_a_config():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    wrapper = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='mmdiffkd.RMSpropTF', **SETTINGS),
            paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
        ),
    )
    assert [group['weight_decay'] for group in wrapper.optimizer.param_groups] == [0.5, 0, 0, 0]


def test_without_timm():
    """The package works without it, and says what is missing when it is used."""
    code = (
        'import sys\n'
        "sys.modules['timm'] = None\n"
        'from mmengine.registry import OPTIMIZERS\n'
        "OPTIMIZERS.build(dict(type='mmdiffkd.RMSpropTF', params=[]))\n"
    )
    process = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert process.returncode == 1
    assert 'ImportError: The optimizer' in process.stderr
    assert 'pip install timm' in process.stderr


def test_timm_is_imported_when_it_is_used():
    code = (
        'import sys\n'
        'from mmdiffkd.registry import OPTIMIZERS\n'
        "assert OPTIMIZERS.get('RMSpropTF') is not None\n"
        "assert 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, '-c', code], check=True)
