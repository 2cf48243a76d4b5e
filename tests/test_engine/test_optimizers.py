"""The optimizer of TensorFlow's recipes, worked out by hand."""

import pytest
import torch
from torch import nn

from mmdiffkd.registry import OPTIMIZERS

RMSPROP = dict(type='mmdiffkd.RMSpropTF', lr=0.1, alpha=0.9, eps=1e-3, momentum=0.9,
               weight_decay=0.5)  # fmt: skip


def test_two_steps_by_hand():
    """From one, not zero; epsilon inside the root; the momentum holds scaled steps."""
    pytest.importorskip('timm')
    weight = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = OPTIMIZERS.build(dict(RMSPROP, params=[weight]))
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
