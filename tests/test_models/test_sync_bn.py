"""Whose statistics the batch norms of heads use."""

import logging
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.registry import MODEL_WRAPPERS, MODELS
from mmengine.runner import Runner
from torch import nn

from mmdiffkd.diffusion import layers


@MODEL_WRAPPERS.register_module()
class PlainWrapper(nn.Module):
    """DDP takes no synchronised batch norm on a CPU."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def wrapped(model, **cfg):
    """The model after mmengine's runner has prepared it for several processes."""
    runner = SimpleNamespace(distributed=True, cfg=Config(cfg), logger=logging.getLogger('test'))
    return Runner.wrap_model(runner, dict(type='PlainWrapper'), model.cpu()).module


def kinds(module):
    norms = (nn.BatchNorm2d, nn.SyncBatchNorm)
    return {type(part) for part in module.modules() if isinstance(part, norms)}


@pytest.mark.parametrize('own', [False, True])
@pytest.mark.parametrize('run', [None, 'torch'])
def test_heads_follow_the_run_or_are_always_synchronised(toy_config, images, run, own):
    toy_config['pairs']['fpn']['head']['sync_bn'] = own
    toy_config['teacher']['fold_bn'] = False
    model = wrapped(MODELS.build(toy_config), sync_bn=run).train()
    expected = nn.SyncBatchNorm if own or run else layers.BatchNorm2d
    assert kinds(model.pairs.fpn) == {expected}
    assert kinds(model.student) == {nn.SyncBatchNorm if run else nn.BatchNorm2d}
    assert kinds(model.teacher.model) == {nn.BatchNorm2d}
    # In one process they are ordinary batch norms.
    assert model(images, mode='loss')['loss_kd_fpn'].isfinite()


def test_norms_of_another_library_get_contiguous_maps(toy_distiller, images):
    """mmcv's kernel reads the memory of a map as (N, C, H, W)."""

    class OtherNorm(nn.Module):
        def forward(self, x):
            assert x.is_contiguous()
            return x

    for head in toy_distiller.pairs['fpn'].heads:
        for module in [*head.modules()]:
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, OtherNorm())
    toy_distiller(images, mode='loss')
