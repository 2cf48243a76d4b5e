"""Whose statistics the heads' batch norms use; torch synchronises none without several GPUs."""

import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import convert_sync_batchnorm
from mmengine.registry import MODEL_WRAPPERS, MODELS
from mmengine.runner import Runner
from torch import nn

from mmdiffkd.diffusion import DiffKDHead, layers
from mmdiffkd.errors import ConfigError


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
    return {
        type(part) for part in module.modules() if isinstance(part, nn.modules.batchnorm._NormBase)
    }


@pytest.fixture
def several_gpus(monkeypatch):
    monkeypatch.setattr('mmdiffkd.models.pair.can_synchronize', lambda module: True)


@pytest.mark.parametrize('own', [None, True, False])
@pytest.mark.parametrize('run', [None, 'torch'])
def test_heads_follow_the_run_or_their_own_setting(toy_config, several_gpus, run, own):
    toy_config['pairs']['fpn']['sync_bn'] = own
    toy_config['teacher']['fold_bn'] = False
    model = MODELS.build(toy_config)
    optimized = {name: id(parameter) for name, parameter in model.named_parameters()}
    buffers = {name: buffer.data_ptr() for name, buffer in model.named_buffers()}
    model = wrapped(model, sync_bn=run).train()
    synchronised = own if own is not None else run is not None
    expected = nn.SyncBatchNorm if synchronised else layers.BatchNorm2d
    assert kinds(model.pairs.fpn) == {expected}
    assert kinds(model.student) == {nn.SyncBatchNorm if run else nn.BatchNorm2d}
    assert kinds(model.teacher.model) == {nn.BatchNorm2d}
    # The optimizer and DDP know these.
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == optimized
    assert {name: buffer.data_ptr() for name, buffer in model.named_buffers()} == buffers
    assert all(module.training for module in model.pairs.modules())


def test_a_copy_is_switched_by_itself(toy_config, images):
    """As EMAHook makes one."""
    toy_config['pairs']['fpn']['sync_bn'] = False
    model = wrapped(MODELS.build(toy_config), sync_bn='torch')
    other = copy.deepcopy(model).train()
    assert kinds(other.pairs) == {layers.BatchNorm2d}
    assert kinds(model.pairs) == {nn.SyncBatchNorm}
    assert not {id(p) for p in other.parameters()} & {id(p) for p in model.parameters()}
    before = copy.deepcopy(other.pairs.state_dict())
    other(images, mode='loss')
    after = other.pairs.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_one_process_synchronises_nothing(toy_config):
    toy_config['pairs']['fpn']['sync_bn'] = True
    model = MODELS.build(toy_config).train()
    assert kinds(model.pairs) == {layers.BatchNorm2d}


def test_a_synchronised_norm_is_no_part_of_a_weight(monkeypatch):
    """A bottleneck's last batch norm is, on large maps of a CPU; the arithmetic is the same."""
    torch.manual_seed(0)
    head = DiffKDHead(student_channels=8, teacher_channels=8).double().train()
    features = torch.randn(2, 2, 8, 32, 40, dtype=torch.double)
    synchronised = convert_sync_batchnorm(copy.deepcopy(head), 'torch')

    def run(head):
        output = head(*features, generator=torch.Generator().manual_seed(1))
        (output.refined.square().mean() + output.losses['diff']).backward()
        gradients = {name: parameter.grad for name, parameter in head.named_parameters()}
        return output.refined.detach(), gradients, dict(head.named_buffers())

    expected = run(copy.deepcopy(head))
    monkeypatch.delattr(layers, 'normalized_conv_add')
    with pytest.raises(NameError, match='normalized_conv_add'):
        run(head)
    torch.testing.assert_close(run(synchronised), expected, rtol=1e-7, atol=1e-10)


def test_a_student_s_own_synchronised_norms_are_kept(toy_config):
    """The runner takes them out where it trains in one process, and on a CPU."""
    toy_config['student']['type'] = 'SynchronizedToyModel'
    assert nn.SyncBatchNorm in kinds(MODELS.build(toy_config).student)


@pytest.mark.parametrize(
    ('pair', 'value', 'message'),
    [
        ('fpn', 'torch', r'pairs.fpn.sync_bn must be True, False or None .*, got \'torch\''),
        ('stem', True, 'pairs.stem.sync_bn: its heads have no batch norms; leave it out'),
        ('logits', False, 'pairs.logits.sync_bn: its heads have no batch norms; leave it out'),
    ],
)
def test_what_cannot_be_is_refused(toy_config, pair, value, message):
    toy_config['pairs'][pair]['sync_bn'] = value
    with pytest.raises(ConfigError, match=message):
        MODELS.build(toy_config)
