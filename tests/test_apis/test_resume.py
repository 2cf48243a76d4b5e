"""A run that ends anywhere and is resumed equals the run that was never stopped, bit for bit."""

import copy
import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import DATASETS, HOOKS, METRICS
from torch.utils.data import Dataset

from mmdiffkd.apis import train
from mmdiffkd.checkpoints import files
from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.checkpoints.resume import choose_checkpoint
from mmdiffkd.engine.hooks import ExactResumeHook
from mmdiffkd.errors import CheckpointError
from tests.toy_run import toy_run

BATCHES_PER_EPOCH = 5


@DATASETS.register_module()
class AugmentedImages(Dataset):
    """Images whose augmentation draws from all generators that transforms of the hosts use."""

    metainfo = dict(classes=('a', 'b', 'c'))

    def __len__(self):
        return 2 * BATCHES_PER_EPOCH

    def __getitem__(self, index):
        noise = random.random() + np.random.rand() + torch.rand(1)
        return dict(inputs=torch.arange(1152.0).view(3, 16, 24).sin() * index + noise)


class Killed(BaseException):
    """What ends a run in these tests."""


@HOOKS.register_module()
class KillHook(Hook):
    """Ends the run before an iteration, and records the losses of the others."""

    priority = 'LOWEST'
    losses = {}

    def __init__(self, before=None):
        self.before = before

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == self.before:
            raise Killed

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        entries = {key: value.item() for key, value in outputs.items()}
        self.losses[runner.iter] = (batch_idx, entries)


BY_EPOCH = dict(train_cfg=dict(by_epoch=True, max_epochs=3, val_interval=1))
CHECKPOINTS_BY_ITERATION = {'default_hooks.checkpoint.by_epoch': False}
BY_ITERATION = {
    'train_cfg': dict(by_epoch=False, max_iters=13, val_interval=2),
    'train_dataloader.sampler.type': 'InfiniteSampler',
    **CHECKPOINTS_BY_ITERATION,
}


@pytest.fixture(autouse=True)
def quick_checkpoints(monkeypatch):
    """mmengine formats the config for every checkpoint, which takes longer than the training."""
    monkeypatch.setattr(Config, 'pretty_text', '')


HOOKS_OF_RUN = ('EMAHook', 'mmdiffkd.ExactResumeHook', 'KillHook')


@pytest.fixture
def make_config(toy_config, tmp_path):
    def make(name, **changes):
        cfg = toy_run(
            copy.deepcopy(toy_config),
            tmp_path / name,
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
            custom_hooks=[dict(type=kind) for kind in HOOKS_OF_RUN],
            param_scheduler=dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=12),
            val_cfg=dict(),
            val_evaluator=dict(type='MeanLogit'),
            randomness=dict(seed=None),
        )
        cfg.train_dataloader.dataset.type = 'AugmentedImages'
        cfg.train_dataloader.sampler.shuffle = True
        cfg.val_dataloader = copy.deepcopy(cfg.train_dataloader)
        cfg.optim_wrapper.optimizer.momentum = 0.9
        cfg.train_cfg.clear()
        cfg.merge_from_dict(changes)
        return cfg

    return make


def killed(cfg, before):
    """Train until the run is killed before an iteration."""
    cfg.custom_hooks[-1].before = before
    with pytest.raises(Killed):
        train(cfg)


def assert_same_end(runner, other):
    """Weights, averaged weights, moments and schedules are the same to the bit."""
    tensors, schedules = [], []
    for run in (runner, other):
        (ema,) = [hook.ema_model for hook in run.hooks if isinstance(hook, EMAHook)]
        moments = run.optim_wrapper.state_dict()['state']
        tensors.append([run.model.state_dict(), ema.state_dict(), moments])
        schedules.append([scheduler.state_dict() for scheduler in run.param_schedulers])
    torch.testing.assert_close(*tensors, rtol=0, atol=0)
    assert schedules[0] == schedules[1]


WORKERS = {'train_dataloader.num_workers': 2, 'train_dataloader.persistent_workers': True}
FINITE = {'train_dataloader.sampler.type': 'DefaultSampler'}
SCHEDULE = dict(type='mmdiffkd.DistillationScheduleHook', begin=0.4, warmup=dict(length=1))


@pytest.mark.parametrize(
    ('kills', 'changes', 'workers'),
    [
        pytest.param([3, 9], {**BY_EPOCH, **CHECKPOINTS_BY_ITERATION}, {}, id='within epochs'),
        pytest.param([4, 8], {**BY_ITERATION, **FINITE}, {}, id='iterations, finite sampler'),
        pytest.param(
            [2, 7, 11], BY_EPOCH, WORKERS, id='epochs, workers', marks=pytest.mark.slow
        ),
        pytest.param(
            [5, 6], BY_ITERATION, WORKERS, id='iterations, workers', marks=pytest.mark.slow
        ),
        pytest.param(
            [4, 8], {**BY_EPOCH, **CHECKPOINTS_BY_ITERATION,
                     'custom_hooks': [SCHEDULE, *(dict(type=kind) for kind in HOOKS_OF_RUN)]},
            {}, id='schedule', marks=pytest.mark.slow,
        ),
        pytest.param([7], {**BY_EPOCH, 'model.student.type': 'HidingToy'}, {}, id='hidden prefix'),
    ],
)  # fmt: skip
def test_resumed_run_is_the_unbroken_run(make_config, kills, changes, workers, monkeypatch):
    """Weights, moments, averages, and every loss on the way, with any number of workers."""
    monkeypatch.setattr(KillHook, 'losses', {})
    for before in kills:
        killed(make_config('broken', **changes, **workers, resume='auto'), before)
    broken = train(make_config('broken', **changes, **workers, resume='auto'))
    losses = KillHook.losses
    assert list(losses) == list(range(broken.max_iters))
    assert len({entries['loss'] for _, entries in losses.values()}) == len(losses)
    monkeypatch.setattr(KillHook, 'losses', {})
    # The config names no seed: the first process drew one, the others took it from the checkpoint.
    unbroken = train(make_config('unbroken', **changes, **{'randomness.seed': broken.seed}))
    assert KillHook.losses == losses
    assert_same_end(broken, unbroken)


def test_data_are_not_loaded_to_be_skipped(make_config, monkeypatch):
    killed(make_config('run', **BY_ITERATION), 11)
    loaded = []
    load = AugmentedImages.__getitem__
    counting = lambda self, index: loaded.append(index) or load(self, index)  # noqa: E731
    monkeypatch.setattr(AugmentedImages, '__getitem__', counting)
    without = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)
    train(make_config('run', **BY_ITERATION, resume='auto', **without))
    # One is looked at while the model is built.
    assert len(loaded) == 1 + 2 * (13 - 11)


def test_ordinary_resuming_needs_no_hook(make_config, tmp_path):
    """Optimizer, schedule, heads and seed go on; without a checkpoint it is a start."""
    changes = dict(**BY_EPOCH, custom_hooks=[dict(type='KillHook')], resume='auto')
    killed(make_config('run', **changes), 7)
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert f'nothing to go on from in {tmp_path / "run"}' in log
    saved = torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=False)
    runner = train(make_config('run', **changes))
    assert Path(runner.cfg.load_from).name == 'epoch_1.pth'
    assert runner.iter == 3 * BATCHES_PER_EPOCH and runner.seed == saved['meta']['seed']
    assert not [hook for hook in runner.hooks if isinstance(hook, ExactResumeHook)]


def test_choice_of_a_checkpoint(make_config, tmp_path):
    """Damaged files and those without an optimizer's state are passed over, or errors by name."""
    saving = {'default_hooks.checkpoint.save_best': 'toy/mean',
              'default_hooks.checkpoint.rule': 'greater'}  # fmt: skip
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / 'epoch_1.pth.partial').write_bytes(b'half')
    train(make_config('run', **BY_EPOCH, **saving))
    assert not list(folder.glob('*.partial'))
    (best,) = folder.glob('best_*.pth')
    last = folder / 'epoch_3.pth'
    with pytest.raises(CheckpointError, match='no state of an optimizer'):
        choose_checkpoint(make_config('run', resume=str(best)))
    content = last.read_bytes()
    # The directory of the archive is at its end.
    directory = content.rindex(b'PK\x01\x02')
    no_entry = content[:directory] + b'xxxx' + content[directory + 4 :]
    for damaged in (content[:1000], b'', content[:5000] + b'x' + content[5001:], no_entry):
        last.write_bytes(damaged)
        with pytest.raises(CheckpointError, match='epoch_3.pth'):
            choose_checkpoint(make_config('run', resume=str(last)))
        cfg = make_config('run', resume='auto')
        warnings = choose_checkpoint(cfg)
        assert Path(cfg.load_from).name == 'epoch_2.pth'
        assert any('passing over' in text and 'epoch_3.pth' in text for text in warnings)
    for path in folder.glob('epoch_*.pth'):
        path.write_bytes(b'')
    best.unlink()
    with pytest.raises(CheckpointError, match='none of 3 files can be'):
        choose_checkpoint(make_config('run', resume='auto'))


def test_checkpoint_of_another_model_is_an_error(make_config):
    """mmengine would go on with the weights that fit, and the others at random."""
    plain = {**BY_EPOCH, 'custom_hooks': []}
    train(make_config('run', **plain))
    problem = r'--resume: .* of another model .*\(8, 3, 3, 3\) for .*, expected \(10, 3, 3, 3\)'
    with pytest.raises(CheckpointError, match=problem):
        train(make_config('run', **plain, **{'model.student.width': 10}, resume='auto'))


@pytest.mark.parametrize('kind', ['epoch', 'best'])
def test_killed_while_a_checkpoint_is_written(make_config, kind, monkeypatch, tmp_path):
    """mmengine removes the only file before it writes the one that takes its place."""
    hook = dict(type='CheckpointHook', max_keep_ckpts=1, save_best='toy/mean', rule='greater')
    saving = {'default_hooks.checkpoint': hook}
    write, written = files.replace_bytes, []

    def die_at_the_second(path, content):
        if Path(path).name.startswith(kind):
            written.append(path)
            if len(written) == 2:
                raise Killed
        write(path, content)

    better = itertools.count()
    metric = METRICS.get('MeanLogit')
    monkeypatch.setattr(metric, 'compute_metrics', lambda *_: dict(mean=next(better)))
    monkeypatch.setattr(files, 'replace_bytes', die_at_the_second)
    with pytest.raises(Killed):
        train(make_config('run', **BY_EPOCH, **saving))
    assert load_file(written[0])['state_dict']
    train(make_config('run', **BY_EPOCH, **saving, resume='auto'))
    assert len(list((tmp_path / 'run').glob(f'{kind}*.pth'))) == 1
