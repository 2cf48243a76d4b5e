"""Losses and weights that are not finite; tests/test_distributed has several processes."""

import math
import os

import pytest
import torch
from mmengine.registry import MODELS

from mmdiffkd.engine.hooks import NonFiniteLossError, NonFiniteLossHook
from tests.test_engine.conftest import Spoil, infinite

EVERY_2 = dict(type='mmdiffkd.SafeCheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=1)
BAD_ITERATION = 3  # of those counted from 0; the checkpoint of 2 iterations is there


def checkpoints(runner):
    return sorted(name for name in os.listdir(runner.work_dir) if name.endswith('.pth'))


def spoiled(make_runner, where=lambda model: model.student.neck, iterations=(BAD_ITERATION,),
            **changes):  # fmt: skip
    """A runner that meets bad numbers."""
    length = dict(by_epoch=False, max_iters=6)
    runner = make_runner(NonFiniteLossHook(), train_cfg=length, **changes)
    runner.register_hook(Spoil(where(runner.model), infinite, iterations))
    runner.register_hook(EVERY_2)
    return runner


def message_of(runner):
    with pytest.raises(NonFiniteLossError) as caught:
        runner.train()
    return str(caught.value)


def test_losses_and_last_checkpoint_are_named(make_runner):
    runner = spoiled(make_runner)
    message = message_of(runner)
    assert message.startswith('iteration 4: loss_task is inf, loss_kd_fpn is nan, ')
    assert 'loss_kd_stem' not in message and 'rank' not in message
    last = os.path.join(runner.work_dir, 'iter_2.pth')
    assert message.endswith(f'nothing was saved since, the last checkpoint is {last}')
    assert checkpoints(runner) == ['iter_2.pth']


def test_gradients_that_are_not_finite(make_runner):
    """Losses are finite; the checkpoint before is kept though only one is to be kept."""
    runner = spoiled(make_runner, iterations=())
    weight = runner.model.student.neck.convs[1].weight
    weight.register_hook(lambda grad: grad * (math.inf if runner.iter == BAD_ITERATION else 1))
    message = message_of(runner)
    assert message.startswith('neck.convs.1.weight became inf or nan in a step whose losses')
    assert checkpoints(runner) == ['iter_2.pth']
    # As an interrupt would, on the way out.
    with pytest.raises(NonFiniteLossError, match='neck.convs.1.weight became inf or nan'):
        runner.save_checkpoint(runner.work_dir, 'interrupted.pth')


def test_buffers_that_never_were_finite_are_left_alone(make_runner):
    runner = spoiled(make_runner, iterations=())
    runner.model.student.register_buffer('mask', torch.full((2,), -math.inf))
    runner.train()
    assert 'iter_6.pth' in checkpoints(runner)


def test_plain_student(make_runner, toy_config):
    model = MODELS.build(toy_config['student'])
    runner = spoiled(make_runner, where=lambda model: model.neck, model=model)
    assert message_of(runner).startswith('iteration 4: loss_task is inf; nothing was saved')


@pytest.mark.parametrize('weight, said', [(1e4, True), (1e-4, False)])
def test_the_weight_of_a_pair_is_far_too_large(weight, said, make_runner, toy_config, capsys):
    toy_config['pairs']['fpn']['loss']['loss_weight'] = weight
    model = MODELS.build(toy_config)
    length = dict(by_epoch=False, max_iters=12)
    still = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.0))
    make_runner(NonFiniteLossHook(), model=model, train_cfg=length, optim_wrapper=still).train()
    output = capsys.readouterr()
    text = output.out + output.err
    assert text.count('pairs.fpn.weight lowers it') == said
