"""Pooling with dropout: plain pooling in evaluation, scaled channels in training."""

import torch

from mmdiffkd.registry import MODELS


def test_pooling_with_dropout():
    neck = MODELS.build(dict(type='mmdiffkd.DropoutAveragePooling', drop_rate=0.2))
    maps = torch.randn(2, 5, 3, 4), torch.randn(2, 7, 1, 1)
    for feature, vector in zip(maps, neck.eval()(maps)):
        torch.testing.assert_close(vector, feature.flatten(2).mean(2))
    torch.manual_seed(0)
    (vector,) = neck.train()((torch.ones(100, 100, 2, 2),))
    assert vector.unique().tolist() == [0, 1.25] and 0.78 < vector.bool().float().mean() < 0.82
