"""Losses, features and weights that are not finite, in runs of the toy distiller."""

import copy
import importlib
import math
import os
import re

import pytest
import torch
import torch.multiprocessing
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmdiffkd.engine.hooks import NonFiniteLossError, NonFiniteLossHook
from mmdiffkd.errors import ConfigError
from tests.test_engine.conftest import Spoil, ToyImages, infinite

ITERATIONS = dict(by_epoch=False, max_iters=6)
EVERY_2 = dict(type='CheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=1)
BAD_ITERATION = 3  # of those counted from 0; the checkpoint of 2 iterations is there


class States(Hook):
    """Weights, buffers, optimizer and average before each iteration and at the end."""

    priority = 'VERY_HIGH'

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, *args, **kwargs):
        optimizer = runner.optim_wrapper.optimizer.state.values()
        self.seen.append(
            dict(
                weights={k: v.clone() for k, v in runner.model.state_dict().items()},
                optimizer=[value['momentum_buffer'].clone() for value in optimizer],
                gradients=[
                    None if p.grad is None else p.grad.clone() for p in runner.model.parameters()
                ],
            )
        )

    after_train = before_train_iter


def checkpoints(runner):
    return sorted(name for name in os.listdir(runner.work_dir) if name.endswith('.pth'))


def spoiled(make_runner, hook, *others, where=lambda model: model.student.neck, change=infinite,
            iterations=(BAD_ITERATION,), **changes):  # fmt: skip
    """A runner that meets bad numbers."""
    runner = make_runner(hook, *others, train_cfg=ITERATIONS, **changes)
    spoil = Spoil(where(runner.model), change, iterations)
    runner.register_hook(spoil)
    runner.register_hook(EVERY_2)
    return runner


def message_of(runner):
    with pytest.raises(NonFiniteLossError) as caught:
        runner.train()
    return str(caught.value)


class TestStop:
    def test_pair_level_and_feature_are_named(self, make_runner):
        runner = spoiled(make_runner, NonFiniteLossHook())
        message = message_of(runner)
        assert message.startswith('iteration 4: loss_task is inf, loss_kd_fpn is nan at level 1, ')
        assert 'loss_kd_logits is nan at level 1' in message
        assert (
            "the student's feature 'neck' of pairs.fpn has 5 of 384 values that are inf or nan at "
            'level 1 (float32)' in message
        )
        assert 'level 0' not in message and 'loss_kd_stem' not in message and 'rank' not in message
        assert 'teacher' not in message
        last = os.path.join(runner.work_dir, 'iter_2.pth')
        assert message.endswith(f'nothing was saved since, the last checkpoint is {last}')

    def test_nothing_is_saved_afterwards(self, make_runner):
        runner = spoiled(make_runner, NonFiniteLossHook())
        message = message_of(runner)
        assert checkpoints(runner) == ['iter_2.pth']
        # As the hook of interrupts would, on the way out.
        with pytest.raises(NonFiniteLossError, match=re.escape(message)):
            runner.save_checkpoint(runner.work_dir, 'interrupted.pth')
        assert checkpoints(runner) == ['iter_2.pth']

    def test_teacher(self, make_runner):
        message = message_of(
            spoiled(make_runner, NonFiniteLossHook(), where=lambda model: model.teacher.model.neck)
        )
        assert 'loss_diff_fpn is nan at level 1, loss_ae_fpn is' in message
        assert "the teacher's feature 'neck' of pairs.fpn has 5 of 576 values" in message
        assert 'loss_task' not in message and "the student's" not in message

    def test_the_student_s_own_loss(self, make_runner):
        message = message_of(
            spoiled(
                make_runner,
                NonFiniteLossHook(),
                where=lambda model: model.student,
                change=lambda losses: dict(loss_task=losses['loss_task'] * math.nan),
            )
        )
        assert message.startswith('iteration 4: loss_task is nan; nothing was saved since')

    def test_gradients_that_are_not_finite(self, make_runner):
        """Losses are finite; the checkpoint before is kept though only one is to be kept."""
        runner = spoiled(make_runner, NonFiniteLossHook(), iterations=())
        weight = runner.model.student.neck.convs[1].weight
        weight.register_hook(
            lambda gradient: gradient * (math.inf if runner.iter == BAD_ITERATION else 1)
        )
        message = message_of(runner)
        assert message.startswith('neck.convs.1.weight became inf or nan in a step whose losses')
        assert checkpoints(runner) == ['iter_2.pth']

    def test_before_a_validation_and_at_the_end_of_an_epoch(self, make_runner):
        runner = make_runner(NonFiniteLossHook())
        runner.model.pairs['stem'].heads[0].align.weight.register_hook(
            lambda gradient: gradient * (math.nan if runner.iter == BAD_ITERATION else 1)
        )
        message = message_of(runner)
        assert message.startswith('distill.pairs.stem.heads.0.align.weight became inf or nan')
        assert message.endswith('there is no checkpoint yet') and checkpoints(runner) == []

    def test_buffers_that_never_were_finite_are_left_alone(self, make_runner):
        runner = spoiled(make_runner, NonFiniteLossHook(), iterations=())
        runner.model.student.register_buffer('mask', torch.full((2,), -math.inf))
        runner.train()
        assert 'iter_6.pth' in checkpoints(runner)

    def test_plain_student(self, make_runner, toy_config):
        runner = spoiled(
            make_runner, NonFiniteLossHook(), where=lambda model: model.neck,
            model=MODELS.build(toy_config['student']),
        )  # fmt: skip
        assert message_of(runner).startswith('iteration 4: loss_task is inf; nothing was saved')

    def test_results_are_the_same_with_it(self, make_runner):
        """And it lets go of what it saw."""
        states, without = States(), States()
        hook = NonFiniteLossHook()
        make_runner(hook, states, train_cfg=ITERATIONS, name='with').train()
        make_runner(without, train_cfg=ITERATIONS, name='without').train()
        for key, value in without.seen[-1]['weights'].items():
            assert torch.equal(states.seen[-1]['weights'][key], value), key
        assert list(hook._witness.features()) == list(hook._witness.losses()) == []


class TestSkip:
    def test_iteration_leaves_no_trace(self, make_runner):
        states = States()
        hook = NonFiniteLossHook(action='skip')
        ema = dict(type='EMAHook', momentum=0.1)
        runner = spoiled(make_runner, hook, states, ema)
        runner.train()
        before, after = states.seen[BAD_ITERATION : BAD_ITERATION + 2]
        for key, value in before['weights'].items():
            assert torch.equal(value, after['weights'][key]), key
        for ours, expected in zip(after['optimizer'], before['optimizer']):
            assert torch.equal(ours, expected)
        assert hook.num_skipped == 1 and 'iter_6.pth' in checkpoints(runner)
        saved = torch.load(os.path.join(runner.work_dir, 'iter_6.pth'), weights_only=False)
        for key in ('state_dict', 'ema_state_dict'):
            assert all(value.isfinite().all() for value in saved[key].values())
        later = states.seen[-1]['weights']['backbone.0.weight']
        assert not torch.equal(later, after['weights']['backbone.0.weight'])
        assert 'update_params' not in vars(runner.optim_wrapper)

    def test_warning_names_what_was_bad(self, make_runner, caplog):
        runner = spoiled(make_runner, NonFiniteLossHook(action='skip'), iterations=(2, 4))
        runner.logger.addHandler(caplog.handler)
        runner.train()
        warnings = [r.getMessage() for r in caplog.records if 'skipped' in r.getMessage()]
        assert [text.partition(':')[0] for text in warnings] == ['iteration 3', 'iteration 5']
        assert 'loss_kd_fpn is nan at level 1' in warnings[0] and "feature 'neck'" in warnings[0]
        assert warnings[1].endswith('skipped, 2 so far')

    def test_accumulated_gradients_stay(self, make_runner):
        """The iteration does not count: the step comes one later, with both gradients."""
        states = States()
        optimizer = dict(type='SGD', lr=0.01, momentum=0.9)
        runner = spoiled(
            make_runner, NonFiniteLossHook(action='skip'), states,
            optim_wrapper=dict(type='OptimWrapper', optimizer=optimizer, accumulative_counts=2),
        )  # fmt: skip
        runner.train()
        gradients = [seen['gradients'] for seen in states.seen]
        # 2 iterations and a step, a gradient, the bad one, a step.
        assert gradients[2][0] is None and gradients[3][0] is not None
        assert all(torch.equal(ours, kept) for ours, kept in zip(gradients[4], gradients[3]))
        assert gradients[5][0] is None

    def test_too_many_in_a_row(self, make_runner):
        runner = spoiled(
            make_runner,
            NonFiniteLossHook(action='skip', max_skipped=2),
            iterations=(0, 2, 3, 4, 5),
        )
        message = message_of(runner)
        assert message.startswith('iteration 5: loss_task is inf')
        assert 'the 2 iterations before were skipped; nothing was saved since' in message

    def test_weights_that_are_lost_are_not_skipped(self, make_runner):
        runner = spoiled(make_runner, NonFiniteLossHook(action='skip'), iterations=())
        runner.model.student.neck.convs[1].weight.register_hook(
            lambda gradient: gradient * (math.nan if runner.iter == 0 else 1)
        )
        assert message_of(runner).startswith('neck.convs.1.weight became inf or nan')
        assert runner.iter == 1 and checkpoints(runner) == []


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(action='warn'), "action must be one of 'stop', 'skip', got 'warn'"),
        (dict(max_skipped=0), 'max_skipped must be a positive number of iterations, got 0'),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        NonFiniteLossHook(**arguments)


@pytest.mark.parametrize('given', [None, NonFiniteLossHook(action='skip')])
def test_trainings_have_it(make_runner, monkeypatch, given):
    """Unless the config has its own."""
    runner = make_runner(*([] if given is None else [given]), train_cfg=ITERATIONS)
    monkeypatch.setattr(runner, 'train', lambda: None)
    module = importlib.import_module('mmdiffkd.apis.train')  # the package has its function
    monkeypatch.setattr(module, 'build_runner', lambda cfg: runner)
    module.train(ConfigDict(launcher='none'))
    hooks = [hook for hook in runner.hooks if isinstance(hook, NonFiniteLossHook)]
    assert len(hooks) == 1 and (given is None or hooks == [given])


def train_as_rank(rank, folder, config):
    """Rank 1 meets bad numbers; writes down what came of it with each action."""
    importlib.import_module('tests.conftest')  # a new process, in which pytest has loaded nothing
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2
    )
    os.environ.update(RANK=str(rank), WORLD_SIZE='2', LOCAL_RANK=str(rank))
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)
    for action in ('stop', 'skip'):
        model = MODELS.build(copy.deepcopy(config))
        spoil = Spoil(model.student.neck, infinite, (BAD_ITERATION,) if rank == 1 else ())
        runner = Runner(
            model=model,
            work_dir=f'{folder}/{action}',
            experiment_name=f'{action}_{rank}',
            train_dataloader=dict(
                dataset=ToyImages(),
                batch_size=2,
                num_workers=0,
                sampler=dict(type='InfiniteSampler'),
            ),
            train_cfg=ITERATIONS,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            default_hooks=dict(checkpoint=EVERY_2),
            custom_hooks=[NonFiniteLossHook(action=action), spoil],
            randomness=dict(seed=0),
            launcher='pytorch',
            cfg=dict(model_wrapper_cfg=wrapper),
        )
        try:
            runner.train()
            result = f'iterations {runner.iter}'
        except NonFiniteLossError as error:
            result = str(error)
        state = runner.model.module.state_dict()
        torch.save(dict(result=result, state=state), f'{folder}/{action}_{rank}.pt')
    torch.distributed.destroy_process_group()


def test_all_processes_do_the_same(tmp_path, toy_config):
    toy_config['teacher'] = dict(toy_config['teacher'], checkpoint='random')
    torch.multiprocessing.spawn(train_as_rank, (str(tmp_path), toy_config), nprocs=2, daemon=True)
    results, saved = {}, {}
    for action in ('stop', 'skip'):
        results[action] = [torch.load(tmp_path / f'{action}_{rank}.pt') for rank in range(2)]
        saved[action] = [path.name for path in (tmp_path / action).glob('iter_*.pth')]
        assert results[action][0]['result'] == results[action][1]['result']
    message = results['stop'][0]['result']
    assert message.startswith('iteration 4: rank 1: loss_task is inf, loss_kd_fpn is nan at level')
    assert 'rank 0' not in message and saved['stop'] == ['iter_2.pth']
    assert results['skip'][0]['result'] == 'iterations 6' and saved['skip'] == ['iter_6.pth']
    for name, value in results['skip'][0]['state'].items():
        assert value.isfinite().all(), name
        if 'running' not in name:  # each process has its own batch statistics
            torch.testing.assert_close(results['skip'][1]['state'][name], value)
