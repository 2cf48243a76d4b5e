"""Losses and weights that are not finite, in runs of the toy distiller."""

import importlib
import math
import os

import pytest
import torch
import torch.multiprocessing
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmdiffkd.engine.hooks import NonFiniteLossError, NonFiniteLossHook
from tests.test_engine.conftest import Spoil, ToyImages, infinite

ITERATIONS = dict(by_epoch=False, max_iters=6)
EVERY_2 = dict(type='mmdiffkd.SafeCheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=1)
BAD_ITERATION = 3  # of those counted from 0; the checkpoint of 2 iterations is there


def checkpoints(runner):
    return sorted(name for name in os.listdir(runner.work_dir) if name.endswith('.pth'))


def spoiled(make_runner, where=lambda model: model.student.neck, change=infinite,
            iterations=(BAD_ITERATION,), **changes):  # fmt: skip
    """A runner that meets bad numbers."""
    runner = make_runner(NonFiniteLossHook(), train_cfg=ITERATIONS, **changes)
    runner.register_hook(Spoil(where(runner.model), change, iterations))
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


def test_teacher(make_runner):
    message = message_of(spoiled(make_runner, where=lambda model: model.teacher.model.neck))
    assert 'loss_diff_fpn is nan, loss_ae_fpn is' in message and 'loss_task' not in message


def test_gradients_that_are_not_finite(make_runner):
    """Losses are finite; the checkpoint before is kept though only one is to be kept."""
    runner = spoiled(make_runner, iterations=())
    weight = runner.model.student.neck.convs[1].weight
    weight.register_hook(
        lambda gradient: gradient * (math.inf if runner.iter == BAD_ITERATION else 1)
    )
    message = message_of(runner)
    assert message.startswith('neck.convs.1.weight became inf or nan in a step whose losses')
    assert checkpoints(runner) == ['iter_2.pth']
    # As an interrupt would, on the way out.
    with pytest.raises(NonFiniteLossError, match='neck.convs.1.weight became inf or nan'):
        runner.save_checkpoint(runner.work_dir, 'interrupted.pth')


def test_at_the_end_of_an_epoch(make_runner):
    runner = make_runner(NonFiniteLossHook())
    runner.model.pairs['stem'].heads[0].align.weight.register_hook(
        lambda gradient: gradient * (math.nan if runner.iter == BAD_ITERATION else 1)
    )
    message = message_of(runner)
    assert message.startswith('distill.pairs.stem.heads.0.align.weight became inf or nan')
    assert message.endswith('there is no checkpoint yet') and checkpoints(runner) == []


def test_buffers_that_never_were_finite_are_left_alone(make_runner):
    runner = spoiled(make_runner, iterations=())
    runner.model.student.register_buffer('mask', torch.full((2,), -math.inf))
    runner.train()
    assert 'iter_6.pth' in checkpoints(runner)


def test_plain_student(make_runner, toy_config):
    model = MODELS.build(toy_config['student'])
    runner = spoiled(make_runner, where=lambda model: model.neck, model=model)
    assert message_of(runner).startswith('iteration 4: loss_task is inf; nothing was saved')


def train_as_rank(rank, folder, config):
    """Rank 1 meets bad numbers; each writes down how it ended."""
    importlib.import_module('tests.conftest')  # a new process, in which pytest has loaded nothing
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2
    )
    os.environ.update(RANK=str(rank), WORLD_SIZE='2', LOCAL_RANK=str(rank))
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)
    model = MODELS.build(config)
    spoil = Spoil(model.student.neck, infinite, (BAD_ITERATION,) if rank == 1 else ())
    runner = Runner(
        model=model,
        work_dir=f'{folder}/run',
        train_dataloader=dict(
            dataset=ToyImages(), batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler')
        ),
        train_cfg=ITERATIONS,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(checkpoint=EVERY_2),
        custom_hooks=[NonFiniteLossHook(), spoil],
        launcher='pytorch',
        cfg=dict(model_wrapper_cfg=wrapper),
    )
    with pytest.raises(NonFiniteLossError) as caught:
        runner.train()
    torch.save(str(caught.value), f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()


def test_all_processes_stop(tmp_path, toy_config):
    toy_config['teacher'] = dict(toy_config['teacher'], checkpoint='random')
    torch.multiprocessing.spawn(train_as_rank, (str(tmp_path), toy_config), nprocs=2, daemon=True)
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in range(2))
    assert first == second and 'rank 0' not in first
    assert first.startswith('iteration 4: rank 1: loss_task is inf, loss_kd_fpn is nan')
    assert [path.name for path in (tmp_path / 'run').glob('iter_*.pth')] == ['iter_2.pth']
