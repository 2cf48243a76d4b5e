"""Heads and losses that ask for the batch, or for the teacher."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmdiffkd.diffusion import AlignHead, HeadOutput
from mmdiffkd.errors import ConfigError


class AskingHead(AlignHead):
    """Refines with the teacher's own layer, and has a loss and a statistic of its own."""

    contexts = []

    def __init__(self, student_channels, teacher_channels, teacher_model):
        super().__init__(student_channels, teacher_channels)
        self.teacher = [teacher_model]

    def forward(self, student_feat, teacher_feat, context):
        self.contexts.append(context)
        output = super().forward(student_feat, teacher_feat)
        cross = self.teacher[0].head.cls(output.refined)
        losses, stats = dict(cross=cross.square().mean()), dict(size=torch.ones(2, 2))
        return HeadOutput(output.refined, output.target, output.aligned, losses, stats)


class WeightedByLabels(nn.Module):
    def forward(self, refined, target, context):
        weights = torch.tensor([float(label) for label in context.data_samples])
        return (weights * (refined - target).square().mean((1, 2, 3))).mean()


@pytest.fixture
def config(toy_config):
    pair = toy_config['pairs']['fpn']
    pair.update(head=dict(type=AskingHead), loss=dict(type=WeightedByLabels))
    toy_config['pairs'] = dict(fpn=pair)
    return toy_config


def test_head_and_loss_get_the_batch_and_the_teacher(config, images):
    distiller = MODELS.build(config)
    AskingHead.contexts.clear()
    losses = distiller(images, [0, 0], mode='loss')
    assert losses['loss_kd_fpn'] == 0 and losses['size_fpn'] == 1
    first, second = AskingHead.contexts
    assert first.inputs is images and first.data_samples == [0, 0]
    assert (first.level, second.level) == (0, 1)
    assert first.image_size == tuple(images.shape[-2:])
    assert (first.stride, second.stride) == ((2.0, 2.0), (4.0, 4.0))
    assert distiller(images, [1, 2], mode='loss')['loss_kd_fpn'] > 0
    losses['loss_cross_fpn'].backward()
    assert distiller.student.backbone[0].weight.grad.abs().sum() > 0
    assert not any(p.grad is not None for p in distiller.teacher.model.parameters())


def test_the_teacher_must_not_become_a_part(config):
    config['pairs']['fpn']['head'] = dict(type=RegisteringHead)
    with pytest.raises(ConfigError, match='pairs.fpn.head has registered the teacher'):
        MODELS.build(config)


class RegisteringHead(AskingHead):
    def __init__(self, student_channels, teacher_channels, teacher_model):
        super().__init__(student_channels, teacher_channels, teacher_model)
        self.part = teacher_model.neck
