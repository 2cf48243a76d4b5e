"""Signals during a training; tests/test_tools/test_train.py sends one to a real process."""

import os
import signal
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmdiffkd.apis import train
from mmdiffkd.engine.hooks import InterruptHook
from tests.toy_run import toy_run


@HOOKS.register_module()
class SignalHook(Hook):
    """Sends a signal ``times`` times before a training iteration or a validation batch.

    It then notes the weights after the iteration, before other hooks change them.
    """

    def __init__(self, number=signal.SIGTERM, validating=False, times=1):
        self.number, self.validating, self.times = number, validating, times

    def before_train_iter(self, runner, *args, **kwargs):
        if not self.validating:
            self.send()

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 0:
            self.send()

    def after_train_iter(self, runner, *args, **kwargs):
        model = runner.model
        type(self).weights = {k: v.clone() for k, v in model.state_dict().items()}

    def send(self):
        for _ in range(self.times):
            os.kill(os.getpid(), self.number)


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
    (path,) = interrupted(toy_config, tmp_path, dict(type='EMAHook'), validating=True)
    checkpoint = torch.load(path, weights_only=False)
    for name, value in SignalHook.weights.items():
        # mmengine saves the average as the model, and the model as the average.
        assert torch.equal(checkpoint['ema_state_dict'][f'module.{name}'], value), name


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
