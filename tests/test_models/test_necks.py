"""Pooling with dropout: plain pooling in evaluation, scaled channels in training."""

import pytest
import torch

from mmdiffkd.registry import MODELS


@pytest.fixture
def neck():
    return MODELS.build(dict(type='mmdiffkd.DropoutAveragePooling', drop_rate=0.2))


def test_evaluation_is_plain_pooling(neck):
    maps = torch.randn(2, 5, 3, 4), torch.randn(2, 7, 1, 1)
    pooled = neck.eval()(maps)
    assert not neck.state_dict()
    for feature, vector in zip(maps, pooled):
        torch.testing.assert_close(vector, feature.flatten(2).sum(2) / feature[0, 0].numel())


def test_training_drops_a_fifth_of_the_pooled_channels(neck):
    torch.manual_seed(0)
    (vector,) = neck.train()((torch.ones(100, 100, 2, 2),))
    kept = vector != 0
    assert 0.78 < kept.float().mean() < 0.82
    torch.testing.assert_close(vector[kept], torch.full_like(vector[kept], 1 / 0.8))


def test_no_probability():
    with pytest.raises(ValueError, match='1.5'):
        MODELS.build(dict(type='mmdiffkd.DropoutAveragePooling', drop_rate=1.5))
