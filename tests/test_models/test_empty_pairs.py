"""Pairs that have nothing to compare in a step: a zero that every parameter is reached by."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmdiffkd.diffusion import AlignHead, DiffKDHead
from mmdiffkd.models import DistillPair
from tests.test_models.test_teacher_inputs import config  # noqa: F401


def pair_of(*heads):
    """A pair of the outputs of module `0` with the given heads."""
    cfg = dict(student='0', teacher='0', loss=dict(type=MeanOfAnotherLibrary))
    pair = DistillPair('p', cfg, nn.Sequential(nn.Identity()))
    pair.heads.extend(heads)
    return pair


class MeanOfAnotherLibrary(nn.Module):
    def forward(self, refined, target):
        return (refined - target).square().mean()


@pytest.mark.parametrize('empty', [(0,), (1,), (0, 1)])
def test_empty_maps_are_left_out(empty):
    """Beside others, or all of them; with any loss."""
    torch.manual_seed(0)
    pair = pair_of(DiffKDHead(6, 8), AlignHead(6, 8))
    pair.replaced = {'rois': 'rois'}
    rows = [0 if level in empty else 3 for level in range(2)]
    student = [torch.randn(n, 6, 5, 5, requires_grad=True) for n in rows]
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    reached = set()
    for name, parameter in pair.named_parameters():
        node = parameter.view_as(parameter).grad_fn.next_functions[0][0]
        node.register_hook(lambda *_, name=name: reached.add(name))
        parameter.node = node
    targets = [torch.randn(n, 8, 5, 5) for n in rows]
    seen = []
    pair.register_output_hook(lambda outputs: seen.extend(outputs))
    losses = pair({'0': student}, targets, torch.zeros(3, 3, 20, 20))
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    assert all(value.isfinite() for value in losses.values())
    assert seen == [level for level in range(2) if level not in empty]
    assert (total == 0) == (len(empty) == 2)
    assert reached == {name for name, _ in pair.named_parameters()}
    assert all(feature.grad is not None for feature in student)
    after = pair.state_dict()
    for level in empty:
        assert all(p.grad is None for p in pair.heads[level].parameters())
        ours = [name for name in before if name.startswith(f'heads.{level}.')]
        assert all(torch.equal(before[name], after[name]) for name in ours)


def test_a_picture_without_proposals(config, images):  # noqa: F811
    distiller = MODELS.build(config)
    distiller.student.num_boxes = 0
    distiller.student.regions[0].forward = lambda maps, boxes: maps.new_zeros(0, maps.shape[1])
    modes = distiller.teacher.model.modes
    modes.clear()
    losses = distiller(images, mode='loss')
    assert losses['loss_kd_scores'] == 0 and losses['loss_kd_fpn'] > 0
    # Nothing is fed, and nobody looks at the teacher's scores.
    assert modes == ['extract_feat']


def test_a_module_that_the_host_leaves_out(config, images, monkeypatch):  # noqa: F811
    """It is said once, because it could be one that training never runs."""
    said = []
    monkeypatch.setattr('mmdiffkd.models.pair.tell', lambda text, *level: said.append(text))
    distiller = MODELS.build(config)
    student = distiller.student
    student.forward = lambda inputs, samples, mode: dict(
        loss_task=sum(level.mean() for level in student.extract_feat(inputs))
    )
    losses = [distiller(images, mode='loss') for _ in range(2)]
    assert all(step['loss_kd_scores'] == 0 and step['loss_kd_fpn'] > 0 for step in losses)
    assert len(said) == 1 and "pairs.scores: student path 'scores.0' did not run" in said[0]


def test_synchronised_norms_rest_in_all_processes(monkeypatch):
    """They would wait for the process that has nothing."""
    asked = []
    monkeypatch.setattr(
        'mmdiffkd.models.pair.all_reduce', lambda value, op: (asked.append(op), value.zero_())
    )
    pair = pair_of(DiffKDHead(6, 8))
    features = {'0': [torch.zeros(2, 6, 5, 5)], 'rois': [torch.zeros(2, 5)]}
    assert pair.takes_part(features) and not asked
    pair.heads = nn.SyncBatchNorm.convert_sync_batchnorm(pair.heads)
    assert pair.takes_part(features) and not asked
    pair.replaced = {'rois': 'rois'}
    assert not pair.takes_part(features) and asked == ['min']
