"""What a pair is compared by: its loss, or the distance of its heads."""

import pytest
import torch
from mmengine.registry import MODELS

from mmdiffkd.diffusion import AlignHead, HeadOutput
from mmdiffkd.errors import ConfigError


class HeadWithDistance(AlignHead):
    def forward(self, student_feat, teacher_feat):
        output = super().forward(student_feat, teacher_feat)
        distance = 3 * (output.refined - output.target).abs().mean()
        return HeadOutput(output.refined, output.target, output.aligned, distance=distance)


def test_distance_of_a_head(toy_config, images):
    toy_config['pairs'] = dict(
        fpn=dict(student='neck', teacher='neck', head=dict(type=HeadWithDistance))
    )
    distiller = MODELS.build(toy_config)
    seen = {}
    distiller.pairs.fpn.register_output_hook(seen.update)
    losses = distiller(images, mode='loss')
    distances = [3 * (output.refined - output.target).abs().mean() for output in seen.values()]
    torch.testing.assert_close(losses['loss_kd_fpn'].detach(), sum(distances))
    assert all(not output.distance.requires_grad for output in seen.values())
    losses['loss_kd_fpn'].backward()
    assert distiller.student.backbone[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(loss=None), "pairs.fpn: 'loss' is required, because DiffKDHead computes no distance"),
        (dict(head=dict(type=HeadWithDistance)), 'set loss=None, because HeadWithDistance'),
        (dict(head=None, loss=None), "pairs.fpn: 'loss' is required, or a head"),
    ],
)
def test_one_of_the_two(changes, message, toy_config):
    toy_config['pairs']['fpn'].update(changes)
    with pytest.raises(ConfigError, match=message):
        MODELS.build(toy_config)


def test_attention_of_maps_of_any_channels(toy_config, images):
    """Without a head, and without distances to channels that the student does not have."""
    loss = dict(type='ATLoss', loss_weight=1000.0)
    toy_config['pairs'] = dict(fpn=dict(student='neck', teacher='neck', loss=loss))
    losses = MODELS.build(toy_config)(images, mode='loss')
    assert losses['loss_kd_fpn'] > 0 and 'dist_after_fpn' not in losses
