"""The way from a config to an mmdet checkpoint, with mmdet's own tools at its end."""

import argparse
import copy
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmdiffkd.apis import add_train_arguments, apply_train_arguments
from mmdiffkd.apis.policy import apply_training_policy
from mmdiffkd.errors import ConfigError

from .conftest import ROOT

ITERATIONS_PER_EPOCH = 4


@pytest.fixture(scope='session')
def trained(write_config, run_here, tmp_path_factory):
    """Work directory of a complete run with an EMA copy, and the config."""
    config = write_config(more="custom_hooks = [dict(type='EMAHook', momentum=0.5)]")
    work_dir = tmp_path_factory.mktemp('trained')
    output = run_here('tools/train.py', config, '--work-dir', work_dir)
    return config, work_dir, output


@pytest.fixture(scope='session')
def student_config(write_config):
    return write_config('student')


def assert_is_student_checkpoint(path, student_config):
    """mmdet builds the plain student, and finds nothing missing in the file."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        from mmdet.apis import init_detector

        model = init_detector(str(student_config), str(path), device='cpu')
    weights = torch.load(path, weights_only=False)['state_dict']
    own = model.state_dict()
    assert {key for key in weights if not key.startswith('distill.')} == set(own)
    assert all(torch.equal(weights[key], value) for key, value in own.items())
    return model


def test_log_and_dumped_config(trained):
    """The log shows losses and gamma, the config in the work directory what was added."""
    config, work_dir, output = trained
    dumped = Config.fromfile(work_dir / config.name)
    kinds = [hook['type'] for hook in dumped.custom_hooks]
    assert kinds == ['EMAHook', 'mmdiffkd.NonFiniteLossHook', 'mmdiffkd.InterruptHook']
    for name in ('loss_cls', 'loss_kd_fpn', 'loss_diff_fpn', 'gamma_fpn', 'dist_after_fpn'):
        assert re.search(rf' {name}: \d', output), name


def test_every_checkpoint_is_a_student_s(trained, student_config):
    _, work_dir, _ = trained
    paths = list(work_dir.glob('*.pth'))
    assert {'epoch_1.pth', 'epoch_2.pth'} < {path.name for path in paths}
    assert len(paths) == 3 and len(list(work_dir.glob('best_coco_bbox_mAP*'))) == 1
    for path in paths:
        assert_is_student_checkpoint(path, student_config)
    # With EMAHook, `state_dict` is the averaged model and `ema_state_dict` the trained one.
    checkpoint = torch.load(work_dir / 'epoch_2.pth', weights_only=False)
    averaged, current = checkpoint['state_dict'], checkpoint['ema_state_dict']
    assert {f'module.{key}' for key in averaged} == set(current) - {'steps'}
    assert not [key for key in current if 'teacher' in key]


@pytest.mark.slow
def test_mmdet_s_own_test_script(trained, student_config, run, tmp_path):
    _, work_dir, _ = trained
    package = Path(importlib.util.find_spec('mmdet').origin).parent
    script = package / '.mim' / 'tools' / 'test.py'
    # With upstream's mmengine and torch >= 2.6 mmdet alone can read no checkpoint of a training.
    output = run(
        script, student_config, work_dir / 'epoch_2.pth', '--work-dir', tmp_path, cwd=tmp_path,
        TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1',
    )  # fmt: skip
    assert 'missing keys' not in output
    unexpected = re.search(r'unexpected key in source state_dict: (.*)', output).group(1)
    assert all(key.startswith('distill.') for key in unexpected.split(', '))


def test_exported_student_loads_strictly_and_predicts_the_same(
    trained, student_config, run_here, tmp_path
):
    config, work_dir, _ = trained
    source, out = work_dir / 'epoch_2.pth', tmp_path / 'student.pth'
    run_here('tools/export_student.py', source, out)
    exported = torch.load(out, weights_only=False)
    assert set(exported) == {'meta', 'state_dict'}
    model = Config.fromstring(exported['meta']['cfg'], '.py').model
    assert model == Config.fromfile(student_config).model
    student = assert_is_student_checkpoint(out, student_config)
    student.load_state_dict(exported['state_dict'], strict=True)
    assert student.dataset_meta['classes'][0] == 'sports ball'
    with DefaultScope.overwrite_default_scope('mmdet'):
        distiller = MODELS.build(Config.fromfile(config).model).eval()
    distiller.load_state_dict(torch.load(source, weights_only=False)['state_dict'])
    inputs = torch.randn(2, 3, 64, 96)
    for ours, theirs in zip(distiller(inputs), student(inputs)):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs))


def start(command, environment, folder):
    """Start a training that does not end by itself, in a process group of its own."""
    options = [] if '--cfg-options' in command else ['--cfg-options']
    command = [*map(str, command), *options, 'train_cfg.max_epochs=1000']
    log = folder / 'log.txt'
    with log.open('w') as stream:
        options = dict(stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
        return subprocess.Popen(command, cwd=ROOT, env=environment, **options), log


def wait_for(log, pattern, process):
    deadline = time.monotonic() + 180
    while not re.search(pattern, log.read_text()):
        assert process.poll() is None, log.read_text()[-5000:]
        assert time.monotonic() < deadline, log.read_text()[-5000:]
        time.sleep(0.2)


@pytest.mark.slow
def test_interrupted_run_leaves_a_checkpoint(
    write_config, student_config, environment, run_here, tmp_path
):
    """The signal reaches the data loading workers, too, as schedulers send it."""
    config = write_config(more='train_dataloader.update(num_workers=2, persistent_workers=True)')
    command = [sys.executable, 'tools/train.py', config, '--work-dir', tmp_path]
    process, log = start(command, environment, tmp_path)
    wait_for(log, 'epoch 2/', process)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 130, log.read_text()[-5000:]
    (path,) = tmp_path.glob('interrupted_iter_*.pth')
    assert Path((tmp_path / 'last_checkpoint').read_text()) == path
    assert_is_student_checkpoint(path, student_config)
    completed = int(path.stem.rpartition('_')[2])
    checkpoint = torch.load(path, weights_only=False)
    assert checkpoint['meta']['iter'] == completed >= ITERATIONS_PER_EPOCH
    output = run_here(*command[1:], '--resume', '--cfg-options', 'train_cfg.max_epochs=3')
    assert f'iter: {completed}' in output
    assert (tmp_path / 'epoch_3.pth').is_file()


@pytest.mark.slow
def test_two_cpu_processes(write_config, student_config, environment, run, tmp_path):
    """gloo, no unused parameters, validation and checkpoints, also of an interrupted run."""
    # DDP sees what the backward pass computes again only once.
    options = ['model.teacher.precision=bf16', 'model.pairs.fpn.head.checkpoint=True']
    command = ['bash', 'tools/dist_train.sh', write_config(), 2, '--work-dir', tmp_path]
    process, log = start([*command, '--cfg-options', *options], environment, tmp_path)
    wait_for(log, 'epoch 3/', process)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=90)
    assert len(list(tmp_path.glob('interrupted_iter_*.pth'))) == 1
    last = ITERATIONS_PER_EPOCH // 2
    assert f'epoch 1/1000  step {last}/{last}' in log.read_text()
    # The config's hooks see the pairs inside DDP.
    assert list(tmp_path.glob('*/vis_data/vis_image/pair_fpn_1.png'))
    assert_is_student_checkpoint(tmp_path / 'epoch_2.pth', student_config)
    saved, folder = tmp_path / 'epoch_2.pth', tmp_path / 'test'
    tested = run('bash', 'tools/dist_test.sh', write_config(), saved, 2, '--work-dir', folder)
    assert 'coco/bbox_mAP' in tested


def with_flags(write_config, kind, *flags):
    """The config after the flags have been applied."""
    parser = argparse.ArgumentParser()
    add_train_arguments(parser)
    cfg = Config.fromfile(write_config(kind))
    apply_train_arguments(cfg, parser.parse_args(flags))
    return cfg


@pytest.mark.parametrize(
    ('kind', 'flags', 'message'),
    [
        ('student', ['--check-teacher'], '--check-teacher: .* is no distillation config'),
        ('diffkd', ['--check-teacher', '--no-validate'], 'needs a validation in the config'),
        ('diffkd', ['--amp'], '--amp needs a GPU'),
    ],
)
def test_flags_that_cannot_be_used(write_config, monkeypatch, kind, flags, message):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ConfigError, match=message):
        with_flags(write_config, kind, *flags)


def test_training_policy_stands_in_the_config(write_config):
    """What is there already stays, and one key leaves everything out."""
    hooks = [dict(type='EMAHook'), dict(type='mmdiffkd.NonFiniteLossHook', priority='LOW')]
    cfg = with_flags(write_config, 'diffkd', '--exact-resume', '--check-teacher', '--resume')
    assert [hook['type'] for hook in cfg.custom_hooks][-2:] == [
        'mmdiffkd.TeacherCheckHook', 'mmdiffkd.ExactResumeHook'
    ]  # fmt: skip
    assert cfg.resume == 'auto'
    cfg.update(launcher='pytorch', custom_hooks=hooks)
    cfg.default_hooks.checkpoint.type = 'CheckpointHook'
    untouched = Config(dict(copy.deepcopy(cfg), training_policy=None))
    apply_training_policy(untouched)
    assert untouched.custom_hooks == hooks and untouched.randomness == cfg.randomness
    assert untouched.default_hooks.checkpoint.type == 'CheckpointHook'
    apply_training_policy(cfg)
    assert cfg.custom_hooks == [*hooks, dict(type='mmdiffkd.InterruptHook')]
    assert cfg.default_hooks.checkpoint.type == 'mmdiffkd.SafeCheckpointHook'
    assert cfg.default_hooks.checkpoint.save_best == 'coco/bbox_mAP'
    assert cfg.randomness == dict(seed=0, diff_rank_seed=True)
