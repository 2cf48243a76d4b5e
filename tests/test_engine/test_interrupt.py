"""Signals on a run whose iterations do not end; tests/test_tools/test_train.py has real runs."""

import logging
import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper

from mmdiffkd.engine.hooks import InterruptHook


@pytest.fixture
def runner(tmp_path):
    parameter = torch.nn.Parameter(torch.zeros(1))
    saved = []
    return SimpleNamespace(
        optim_wrapper=OptimWrapper(torch.optim.SGD([parameter], lr=1.0)),
        message_hub=MessageHub('test_interrupt'),
        model=torch.nn.BatchNorm1d(1),
        hooks=[],
        work_dir=str(tmp_path),
        epoch=2,
        iter=7,
        logger=logging.getLogger('test'),
        parameter=parameter,
        saved=saved,
        save_checkpoint=lambda folder, name, meta, **_: saved.append((name, meta)),
    )


@pytest.fixture
def hook(runner):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    hook = InterruptHook(grace_seconds=0.3)
    hook.before_train(runner)
    yield hook
    hook.after_train(runner)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_finished_iteration_is_saved(hook, runner, number, tmp_path):
    hook.after_train_iter(runner, batch_idx=0)
    assert runner.saved == []
    os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        hook.after_train_iter(runner, batch_idx=0)
    time.sleep(0.6)  # the grace period passes: nothing is saved twice
    assert runner.saved == [('interrupted_iter_8.pth', dict(epoch=2, iter=8))]
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'interrupted_iter_8.pth')


def test_long_iteration_is_not_waited_for(hook, runner):
    """The weights from before it are saved, from another thread."""
    hook.before_train_iter(runner)
    runner.model(torch.tensor([[1.0], [2.0]]))
    os.kill(os.getpid(), signal.SIGTERM)
    wait_until(lambda: runner.saved)
    assert runner.saved == [('interrupted_iter_7.pth', dict(epoch=2, iter=7))]
    # What the forward has changed already is put back.
    assert runner.model.running_mean == 0 and runner.model.num_batches_tracked == 0


def test_not_between_a_step_and_what_belongs_to_it(hook, runner):
    """Schedules and averages follow the step; behind them the main thread saves."""
    hook.before_train_iter(runner)
    runner.parameter.grad = torch.ones(1)
    runner.optim_wrapper.step()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.6)
    assert runner.saved == []
    with pytest.raises(KeyboardInterrupt):
        hook.after_train_iter(runner, batch_idx=3)
    assert runner.saved == [('interrupted_iter_8.pth', dict(epoch=2, iter=8))]
    assert runner.message_hub.get_info('batches_of_epoch_done') == 4


def test_an_error_between_a_step_and_what_belongs_to_it(hook, runner, caplog):
    hook.before_train_iter(runner)
    runner.parameter.grad = torch.ones(1)
    runner.optim_wrapper.step()
    hook.save_unfinished(runner)
    assert runner.saved == [] and 'Not saved' in caplog.text


def test_not_while_the_optimizer_changes_weights(hook, runner):
    runner.parameter.grad = torch.ones(1)
    seen = []

    def slow_step(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1.0)
        seen.extend(runner.saved)

    runner.optim_wrapper.optimizer.register_step_pre_hook(slow_step)
    hook.before_train_iter(runner)
    runner.optim_wrapper.step()
    assert seen == []
    with pytest.raises(KeyboardInterrupt):
        hook.after_train_iter(runner, batch_idx=0)
    assert runner.saved


def test_second_signal_ends_at_once(hook, runner):
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_data_loading_workers_can_be_ended(hook):
    """They are forked with the handlers in place; SIGTERM must still end them."""
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    time.sleep(0.2)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert not hook._requested.is_set()
