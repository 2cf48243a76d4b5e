"""Tokens are a map if they are the image's patches, and as long as they lie as they did."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmdiffkd.errors import ConfigError
from tests.conftest import ToyModel


@MODELS.register_module()
class ToyTransformer(ToyModel):
    """Patches of so many pixels and queries that look at them."""

    def __init__(self, patch=16, queries=100, extra=1, **kwargs):
        super().__init__(**kwargs)
        self.embedding = nn.Conv2d(3, 8, patch, stride=patch)
        self.encoder, self.decoder, self.class_token = nn.Identity(), nn.Identity(), nn.Identity()
        self.queries = nn.Parameter(torch.randn(queries, 8))
        self.extra = extra

    def forward(self, inputs, data_samples=None, mode='tensor'):
        patches = self.embedding(inputs).flatten(2).mT
        tokens = self.encoder(torch.cat([patches[:, : self.extra], patches], 1))
        self.class_token(tokens[:, :1])
        read = self.decoder(self.queries + tokens.mean(1, keepdim=True))
        return dict(loss_task=read.mean()) if mode == 'loss' else read


def tokens_config(path, **model):
    model = dict(type='ToyTransformer', **model)
    return dict(
        type='mmdiffkd.DiffKDDistiller',
        student=model,
        teacher=dict(config=model, checkpoint='random'),
        pairs=dict(tokens=dict(student=path, teacher=path, loss=dict(type='MSELoss'))),
    )


@pytest.mark.parametrize('path', ['decoder', 'class_token'])
def test_queries_and_class_tokens_are_no_map(path):
    message = f"pairs.tokens: student path '{path}': .* tokens fit no patch grid"
    with pytest.raises(ConfigError, match=message):
        MODELS.build(tokens_config(path, queries=49))


@pytest.mark.parametrize('patch, extra', [(14, 5), (32, 0)])
def test_tokens_of_patches_are_maps_of_every_size(patch, extra):
    distiller = MODELS.build(tokens_config('encoder', patch=patch, extra=extra))
    seen = []
    distiller.pairs['tokens'].register_output_hook(lambda outputs: seen.extend(outputs.values()))
    for height, width in ((96, 160), (224, 96)):
        distiller(torch.randn(2, 3, height, width), mode='loss')
        assert seen.pop().refined.shape == (2, 8, height // patch, width // patch)


def test_a_teacher_that_works_at_one_size():
    """Its tokens are those of its own size, whatever the student's images are."""
    cfg = tokens_config('encoder')
    cfg['teacher']['image_size'] = (64, 128)
    distiller = MODELS.build(cfg)
    seen = []
    distiller.pairs['tokens'].register_output_hook(lambda outputs: seen.extend(outputs.values()))
    for height, width in ((96, 160), (224, 96)):
        distiller(torch.randn(2, 3, height, width), mode='loss')
        assert seen.pop().target.shape == (2, 8, 4, 8)
