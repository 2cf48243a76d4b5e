"""Signals during a training; tests/test_tools/test_train.py sends one to a real process."""

import gc
import os
import signal
import weakref
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmdiffkd.apis import train
from mmdiffkd.engine.hooks import InterruptHook
from tests.toy_run import toy_run


@HOOKS.register_module()
class SignalHook(Hook):
    """Sends a signal some times at a place of the run, and notes the weights of iterations."""

    def __init__(self, number=signal.SIGTERM, place='before_train_iter', times=1, error=None):
        self.number, self.place, self.times, self.error = number, place, times, error

    def before_train_iter(self, *args, **kwargs):
        self.send('before_train_iter')

    def before_val_epoch(self, *args, **kwargs):
        self.send('before_val_epoch')

    def after_train_iter(self, runner, *args, **kwargs):
        type(self).weights = {k: v.clone() for k, v in runner.model.state_dict().items()}
        self.send('after_train_iter')

    def send(self, place):
        for _ in range(self.times if place == self.place else 0):
            os.kill(os.getpid(), self.number)
        if place == self.place and self.error is not None:
            raise self.error


@pytest.fixture(autouse=True)
def quick_checkpoints(monkeypatch):
    """mmengine formats the config for every checkpoint, which takes longer than the training."""
    monkeypatch.setattr(Config, 'pretty_text', '')


def handlers():
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def interrupted(toy_config, folder, *hooks, **signals):
    """Train until the signal ends the run; the checkpoints that are left."""
    before = handlers()
    cfg = toy_run(toy_config, folder, custom_hooks=[*hooks, dict(type='SignalHook', **signals)])
    cfg.val_dataloader, cfg.val_cfg = cfg.train_dataloader, dict()
    cfg.val_evaluator = dict(type='MeanLogit')
    with pytest.raises(SystemExit) as left:
        train(cfg)
    assert left.value.code == 130 and handlers() == before
    return sorted(Path(cfg.work_dir).glob('interrupted_*.pth'))


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_iteration_is_finished_and_saved(toy_config, tmp_path, number):
    (path,) = interrupted(toy_config, tmp_path, number=number)
    assert path.name == 'interrupted_iter_1.pth'
    assert (path.parent / 'last_checkpoint').read_text() == str(path)
    checkpoint = torch.load(path, weights_only=False)
    assert (checkpoint['meta']['epoch'], checkpoint['meta']['iter']) == (0, 1)
    for name, value in SignalHook.weights.items():
        assert torch.equal(checkpoint['state_dict'][name], value), name


def test_validation_with_averaged_weights(toy_config, tmp_path):
    """The model's own weights are saved as its own, and the average as the average."""
    (path,) = interrupted(toy_config, tmp_path, dict(type='EMAHook'), place='before_val_epoch')
    checkpoint = torch.load(path, weights_only=False)
    for name, value in SignalHook.weights.items():
        # mmengine saves the average as the model, and the model as the average.
        assert torch.equal(checkpoint['ema_state_dict'][f'module.{name}'], value), name


def test_signal_that_ends_the_loading_of_data(toy_config, tmp_path):
    """A scheduler's signal for all processes ends the workers that load the next batch."""
    (path,) = interrupted(toy_config, tmp_path, error=ConnectionResetError)
    assert path.name == 'interrupted_iter_0.pth'


def test_second_signal_ends_at_once(toy_config, tmp_path):
    assert interrupted(toy_config, tmp_path, times=2) == []


def test_data_loading_workers_survive_ctrl_c_and_can_be_ended():
    hook, before = InterruptHook(), handlers()
    hook.before_train(None)
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM and not hook.requested
    hook.after_train(None)
    assert handlers() == before


def test_model_is_gone_after_training(toy_config, tmp_path):
    """A sweep in one process keeps one model at a time."""
    runner = train(toy_run(toy_config, tmp_path, custom_hooks=[dict(type='EMAHook')]))
    model = weakref.ref(runner.model)
    del runner
    gc.collect()
    assert model() is None
