"""A run that ends anywhere and is resumed equals the run that was never stopped, bit for bit."""

import copy
import itertools
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS, METRICS
from torch.utils.data import Dataset

from mmdiffkd.apis import train
from mmdiffkd.checkpoints import files
from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.engine.hooks import ExactResumeHook
from mmdiffkd.errors import CheckpointError

NUM_IMAGES = 10
BATCHES_PER_EPOCH = 5


@DATASETS.register_module()
class AugmentedImages(Dataset):
    """Images whose augmentation draws from all generators that transforms of the hosts use."""

    metainfo = dict(classes=('a', 'b', 'c'))

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(NUM_IMAGES, 3, 16, 24, generator=generator)

    def __len__(self):
        return NUM_IMAGES

    def __getitem__(self, index):
        noise = random.random() + np.random.rand() + torch.rand(1)
        return dict(inputs=self.images[index] + 0.1 * noise)


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


@pytest.fixture
def make_config(toy_config, tmp_path):
    numbers = itertools.count()
    dataset = dict(type='AugmentedImages')
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dataset,
    )

    def make(name, **changes):
        cfg = Config(
            dict(
                model=copy.deepcopy(toy_config),
                train_dataloader=copy.deepcopy(loader),
                val_dataloader=copy.deepcopy(loader),
                val_cfg=dict(),
                val_evaluator=dict(type='MeanLogit'),
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
                param_scheduler=dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=12),
                default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
                custom_hooks=[
                    dict(type='EMAHook', momentum=0.1),
                    dict(type='mmdiffkd.ExactResumeHook'),
                    dict(type='KillHook'),
                ],
                work_dir=str(tmp_path / name),
                # mmengine's loggers live as long as the process and are found by this name.
                experiment_name=f'{tmp_path.name}_{name}_{next(numbers)}',
                launcher='none',
            )
        )
        cfg.merge_from_dict(changes)
        return cfg

    return make


def killed(cfg, before):
    """Train until the run is killed before an iteration."""
    cfg.custom_hooks[-1].before = before
    with pytest.raises(Killed):
        train(cfg)


def final_state(runner):
    """All that a run leaves: weights, averaged weights, moments, schedules."""
    parts = dict(
        model=runner.model.state_dict(),
        optimizer=runner.optim_wrapper.state_dict(),
        schedules=[scheduler.state_dict() for scheduler in runner.param_schedulers],
    )
    (ema,) = [hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook']
    return {**parts, 'ema': ema.ema_model.state_dict()}


def assert_identical(one, other, where=''):
    if isinstance(one, torch.Tensor):
        assert one.numpy().tobytes() == other.numpy().tobytes(), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_identical(one[key], other[key], f'{where}.{key}')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other)):
            assert_identical(*pair, f'{where}[{index}]')
    else:
        assert one == other, where


PERSISTENT = {'train_dataloader.num_workers': 2, 'train_dataloader.persistent_workers': True}


@pytest.mark.parametrize(
    ('kills', 'changes'),
    [
        pytest.param([2, 7, 11], {**BY_EPOCH, **PERSISTENT}, id='epochs, workers'),
        pytest.param(
            [3, 4, 9, 10], {**BY_EPOCH, **CHECKPOINTS_BY_ITERATION},
            id='within epochs',
        ),
        pytest.param([5, 6], {**BY_ITERATION, **PERSISTENT}, id='iterations, workers'),
        pytest.param(
            [4, 8, 12], {**BY_ITERATION, 'train_dataloader.sampler.type': 'DefaultSampler'},
            id='iterations, finite sampler',
        ),
        pytest.param(
            [4, 8], {**BY_EPOCH, **CHECKPOINTS_BY_ITERATION, 'custom_hooks': [
                dict(type='EMAHook'),
                dict(type='mmdiffkd.ExactResumeHook'),
                dict(type='mmdiffkd.DistillationScheduleHook', begin=0.4, warmup=dict(length=1)),
                dict(type='KillHook'),
            ]},
            id='schedule',
        ),
        pytest.param([7], {**BY_EPOCH, 'model.student.type': 'HidingToy'}, id='hidden prefix'),
    ],
)  # fmt: skip
def test_resumed_run_is_the_unbroken_run(make_config, kills, changes, monkeypatch):
    """Contracts of a resumed run: weights, moments, averages, and every loss on the way."""
    monkeypatch.setattr(KillHook, 'losses', {})
    for before in kills:
        killed(make_config('broken', **changes, resume='auto'), before)
    broken = train(make_config('broken', **changes, resume='auto'))
    losses = KillHook.losses
    assert list(losses) == list(range(broken.max_iters))
    monkeypatch.setattr(KillHook, 'losses', {})
    # The config names no seed: the first process drew one, the others took it from the checkpoint.
    unbroken = train(make_config('unbroken', **changes, **{'randomness.seed': broken.seed}))
    assert KillHook.losses == losses
    assert_identical(final_state(broken), final_state(unbroken))


def test_batches_differ_and_do_not_depend_on_workers(make_config, monkeypatch):
    """The same augmentation with any number of workers, another one in the next epoch."""
    seen = []
    for workers in (0, 2):
        monkeypatch.setattr(KillHook, 'losses', {})
        train(
            make_config(
                f'workers{workers}',
                **{**BY_EPOCH, 'train_dataloader.num_workers': workers, 'randomness.seed': 0},
            )
        )
        seen.append(KillHook.losses)
    assert seen[0] == seen[1]
    assert len({entries['loss_diff_fpn'] for _, entries in seen[0].values()}) == len(seen[0])


def test_data_are_not_loaded_to_be_skipped(make_config, monkeypatch):
    killed(make_config('run', **BY_ITERATION), 11)
    loaded = []
    load = AugmentedImages.__getitem__
    monkeypatch.setattr(
        AugmentedImages, '__getitem__', lambda self, i: loaded.append(i) or load(self, i)
    )
    train(make_config('run', **BY_ITERATION, resume='auto', val_cfg=None, val_dataloader=None,
                      val_evaluator=None))  # fmt: skip
    # One is looked at while the model is built.
    assert len(loaded) == 1 + 2 * (13 - 11)


def logged(cfg):
    """The log files of a work directory."""
    return ''.join(path.read_text() for path in Path(cfg.work_dir).glob('*/*.log'))


def test_ordinary_resuming_needs_no_hook(make_config, tmp_path):
    """Optimizer, schedule, heads and seed go on; the data loader of mmengine skips."""
    hooks = [dict(type='EMAHook'), dict(type='KillHook')]
    killed(make_config('run', **BY_EPOCH, custom_hooks=hooks), 7)
    saved = torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=False)
    cfg = make_config('run', **BY_EPOCH, custom_hooks=hooks, resume='auto')
    runner = train(cfg)
    assert Path(cfg.load_from).name == 'epoch_1.pth'
    assert runner.iter == 3 * BATCHES_PER_EPOCH and runner.seed == saved['meta']['seed']
    assert not [hook for hook in runner.hooks if isinstance(hook, ExactResumeHook)]


def test_nothing_to_resume_from_is_a_start(make_config):
    cfg = make_config('run', **BY_EPOCH, resume='auto')
    cfg.train_cfg.max_epochs = 1
    runner = train(cfg)
    assert runner.iter == BATCHES_PER_EPOCH
    assert f'nothing to go on from in {cfg.work_dir}' in logged(cfg)


@pytest.mark.parametrize('damage', ['truncated', 'one byte', 'empty'])
def test_damaged_checkpoint_is_passed_over(make_config, damage, tmp_path):
    train(make_config('run', **BY_EPOCH))
    path = tmp_path / 'run' / 'epoch_3.pth'
    content = bytearray(path.read_bytes())
    if damage == 'one byte':
        content[len(content) // 2] ^= 0xFF
    path.write_bytes(dict(truncated=content[: len(content) // 2], empty=b'').get(damage, content))
    cfg = make_config('run', **BY_EPOCH, resume='auto')
    runner = train(cfg)
    assert Path(cfg.load_from).name == 'epoch_2.pth'
    assert runner.iter == 3 * BATCHES_PER_EPOCH
    assert re.search(r'passing over .*epoch_3\.pth', logged(cfg))


def test_damaged_checkpoint_asked_for_by_name_is_an_error(make_config, tmp_path):
    train(make_config('run', **BY_EPOCH))
    path = tmp_path / 'run' / 'epoch_3.pth'
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match='epoch_3.pth'):
        train(make_config('run', **BY_EPOCH, resume=str(path)))


def test_damaged_checkpoints_alone_are_an_error(make_config, tmp_path):
    """A run that starts anew would write over them."""
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'epoch_1.pth').write_bytes(b'nothing')
    with pytest.raises(CheckpointError, match=r'epoch_1\.pth.* \(none of 1 files can be'):
        train(make_config('run', **BY_EPOCH, resume='auto'))


def test_best_checkpoint_is_no_place_to_go_on_from(make_config, tmp_path):
    hook = {
        'default_hooks.checkpoint.save_best': 'toy/mean',
        'default_hooks.checkpoint.rule': 'greater',
    }
    train(make_config('run', **BY_EPOCH, **hook))
    (best,) = (tmp_path / 'run').glob('best_*.pth')
    with pytest.raises(CheckpointError, match='no state of an optimizer'):
        train(make_config('run', **BY_EPOCH, resume=str(best)))
    best.touch()
    cfg = make_config('run', **BY_EPOCH, resume='auto')
    train(cfg)
    assert Path(cfg.load_from).name == 'epoch_3.pth'


def test_checkpoint_of_another_model_is_an_error(make_config, tmp_path):
    """mmengine would go on with the weights that fit, and the others at random."""
    plain = {**BY_EPOCH, 'custom_hooks': []}
    train(make_config('run', **plain))
    for change, problem in [
        ({'model.student.width': 10}, r'\(8, 3, 3, 3\) for .*, expected \(10, 3, 3, 3\)'),
        ({'model.student.levels': 3, 'model.teacher.config.levels': 3}, 'it has nothing for '),
    ]:
        cfg = make_config('run', **plain, **change, resume='auto')
        if 'model.teacher.config.levels' in change:
            cfg.model.teacher.checkpoint = 'random'
        with pytest.raises(CheckpointError, match=f'--resume: .* of another model .*{problem}'):
            train(cfg)


@pytest.mark.parametrize('content', [[], dict(state_dict={}), dict(meta=dict(epoch=1, iter=2))])
def test_file_that_no_training_wrote(make_config, content, tmp_path):
    torch.save(content, tmp_path / 'file.pth')
    with pytest.raises(CheckpointError, match=r'file\.pth. (was not written|holds no weights)'):
        train(make_config('run', **BY_EPOCH, resume=str(tmp_path / 'file.pth')))


@pytest.mark.parametrize(
    ('kind', 'setting'),
    [('epoch', dict(max_keep_ckpts=1)), ('best', dict(save_best='toy/mean', rule='greater'))],
)
def test_killed_while_a_checkpoint_is_written(make_config, kind, setting, monkeypatch, tmp_path):
    """mmengine removes the only file before it writes the one that takes its place."""
    saving = {'default_hooks.checkpoint': dict(type='CheckpointHook', **setting)}
    write, written = files.replace_bytes, []

    def die_at_the_second(path, content):
        if Path(path).name.startswith(kind):
            written.append(path)
            if len(written) == 2:
                raise Killed
        write(path, content)

    better = itertools.count()
    monkeypatch.setattr(
        METRICS.get('MeanLogit'), 'compute_metrics', lambda *_: dict(mean=next(better))
    )
    monkeypatch.setattr(files, 'replace_bytes', die_at_the_second)
    with pytest.raises(Killed):
        train(make_config('run', **BY_EPOCH, **saving))
    assert load_file(written[0])['state_dict']
    cfg = make_config('run', **BY_EPOCH, **saving, resume='auto')
    train(cfg)
    assert Path(cfg.load_from).is_relative_to(tmp_path / 'run')
    assert len(list((tmp_path / 'run').glob(f'{kind}*.pth'))) == 1


def test_partial_files_are_cleared_away(make_config, tmp_path):
    partial = tmp_path / 'run' / 'epoch_1.pth.partial'
    partial.parent.mkdir()
    partial.write_bytes(b'half')
    train(make_config('run', **BY_EPOCH))
    assert not partial.exists()
