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
from mmengine.hooks import Hook
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from mmdiffkd.apis import add_train_arguments, apply_train_arguments
from mmdiffkd.apis.policy import apply_training_policy

from .conftest import ROOT

ITERATIONS_PER_EPOCH = 4


@pytest.fixture(scope='session')
def trained(write_config, run, tmp_path_factory):
    """Work directory of a complete run with an EMA copy, and the config."""
    config = write_config(more="custom_hooks = [dict(type='EMAHook', momentum=0.5)]")
    work_dir = tmp_path_factory.mktemp('trained')
    output = run('tools/train.py', config, '--work-dir', work_dir)
    return config, work_dir, output


@pytest.fixture(scope='session')
def student_config(write_config):
    return write_config('student')


def checkpoints(work_dir):
    return sorted(path for path in Path(work_dir).glob('*.pth'))


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


@pytest.mark.contract(4, 'student checkpoints')
def test_every_checkpoint_is_a_student_s(trained, student_config):
    _, work_dir, _ = trained
    names = [path.name for path in checkpoints(work_dir)]
    assert {'epoch_1.pth', 'epoch_2.pth'} < set(names)
    assert any(name.startswith('best_coco_bbox_mAP') for name in names)
    assert Path((work_dir / 'last_checkpoint').read_text()).name == 'epoch_2.pth'
    for path in checkpoints(work_dir):
        assert_is_student_checkpoint(path, student_config)


@pytest.mark.contract(4, 'student checkpoints')
def test_ema_copy_holds_no_teacher(trained):
    """`state_dict` is the averaged model, `ema_state_dict` the trained one, both ours."""
    _, work_dir, _ = trained
    checkpoint = torch.load(work_dir / 'epoch_2.pth', weights_only=False)
    averaged, current = checkpoint['state_dict'], checkpoint['ema_state_dict']
    assert {f'module.{key}' for key in averaged} == set(current) - {'steps'}
    key = 'backbone.layer4.1.conv2.weight'
    assert not torch.equal(averaged[key], current['module.' + key])
    assert not [key for key in current if 'teacher' in key]


@pytest.mark.contract(4, 'student checkpoints')
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


def test_our_test_script_gives_what_validation_gave(trained, run, tmp_path):
    config, work_dir, output = trained
    last = re.findall(r'Epoch\(val\) \[2\].*coco/bbox_mAP: ([\d.]+)', output)[-1]
    tested = run(
        'tools/test.py', config, work_dir / 'epoch_2.pth', '--work-dir', tmp_path,
        '--out', tmp_path / 'predictions.pkl',
    )  # fmt: skip
    assert re.search(r'coco/bbox_mAP: ([\d.]+)', tested).group(1) == last
    assert (tmp_path / 'predictions.pkl').is_file()


def test_teacher_can_be_tested(trained, write_config, run, tmp_path):
    config, _, _ = trained
    teacher = Config.fromfile(config).model.teacher.config
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        weights = MODELS.build(Config.fromfile(teacher).model).state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'teacher.pth')
    output = run(
        'tools/test.py', config, tmp_path / 'teacher.pth', '--teacher', '--work-dir', tmp_path
    )
    assert f'loaded from {tmp_path / "teacher.pth"}' in output
    wrong = run(
        'tools/test.py', config, trained[1] / 'epoch_1.pth', '--teacher', '--work-dir', tmp_path,
        expect=1,
    )  # fmt: skip
    assert 'does not fit RetinaNet' in wrong


@pytest.mark.contract(4, 'student checkpoints')
def test_exported_student_loads_strictly_and_predicts_the_same(
    trained, student_config, run, tmp_path
):
    config, work_dir, _ = trained
    source, out = work_dir / 'epoch_2.pth', tmp_path / 'student.pth'
    output = run('tools/export_student.py', source, out)
    assert str(out) in output
    exported = torch.load(out, weights_only=False)
    assert set(exported) == {'meta', 'state_dict'}
    assert out.stat().st_size < source.stat().st_size / 3
    assert 'exists' in run('tools/export_student.py', source, out, expect=1)

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


class Probe(Hook):
    """Looks at a run from inside."""

    def before_train(self, runner):
        self.teacher = runner.model.teacher.model
        self.teacher_before = {k: v.clone() for k, v in self.teacher.state_dict().items()}
        self.weights = {k: v.clone() for k, v in runner.model.state_dict().items()}
        self.optimizer = copy.deepcopy(runner.optim_wrapper.state_dict())
        self.schedulers = [copy.deepcopy(s.state_dict()) for s in runner.param_schedulers]
        self.start = runner.epoch, runner.iter


@pytest.mark.contract(1, 'frozen teacher')
@pytest.mark.contract(4, 'student checkpoints')
def test_resume_restores_everything_and_the_teacher_stays(write_config, tmp_path):
    """The teacher of a real detector, and `--resume` with heads, optimizer and schedule."""

    def train(**changes):
        cfg = Config.fromfile(write_config())
        cfg.work_dir = str(tmp_path)
        cfg.merge_from_dict(changes)
        runner = Runner.from_cfg(cfg)
        probe = Probe()
        runner.register_hook(probe)
        runner.train()
        return probe

    first = train(**{'train_cfg.max_epochs': 1})
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
    second = train(resume=True)
    assert first.start == (0, 0)
    assert second.start == (1, ITERATIONS_PER_EPOCH)
    assert any(key.startswith('distill.') for key in saved['state_dict'])
    for key, value in saved['state_dict'].items():
        assert torch.equal(second.weights[key], value), key
    moments = saved['optimizer']['state']
    assert len(moments) == len(second.optimizer['state']) > 0
    for index, state in moments.items():
        assert torch.equal(state['exp_avg'], second.optimizer['state'][index]['exp_avg'])
    assert second.schedulers == saved['param_schedulers']
    last = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    assert last['meta']['iter'] == 2 * ITERATIONS_PER_EPOCH
    for probe in (first, second):
        after = probe.teacher.state_dict()
        for key, value in probe.teacher_before.items():
            assert value.numpy().tobytes() == after[key].numpy().tobytes(), key


def start(command, environment, log, **options):
    with log.open('w') as stream:
        return subprocess.Popen(
            [str(argument) for argument in command],
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            **options,
        )


def wait_for(log, pattern, process, seconds=180):
    deadline = time.monotonic() + seconds
    while not re.search(pattern, log.read_text()):
        assert process.poll() is None, log.read_text()[-5000:]
        assert time.monotonic() < deadline, log.read_text()[-5000:]
        time.sleep(0.2)


@pytest.mark.contract(4, 'student checkpoints')
def test_interrupted_run_leaves_a_checkpoint(
    write_config, student_config, environment, run, tmp_path
):
    """The signal reaches the data loading workers, too, as schedulers send it."""
    config = write_config(more='train_dataloader.update(num_workers=2, persistent_workers=True)')
    log = tmp_path / 'log.txt'
    command = [sys.executable, 'tools/train.py', config, '--work-dir', tmp_path, '--cfg-options']
    process = start(
        [*command, 'train_cfg.max_epochs=1000'], environment, log, start_new_session=True
    )
    wait_for(log, r'Epoch\(train\)\s+\[2\]', process)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 130, log.read_text()[-5000:]
    (path,) = tmp_path.glob('interrupted_iter_*.pth')
    assert Path((tmp_path / 'last_checkpoint').read_text()) == path
    assert_is_student_checkpoint(path, student_config)
    completed = int(path.stem.rpartition('_')[2])
    checkpoint = torch.load(path, weights_only=False)
    assert checkpoint['meta']['iter'] == completed >= ITERATIONS_PER_EPOCH
    output = run(*command[1:-1], '--resume', '--cfg-options', 'train_cfg.max_epochs=3')
    assert f'iter: {completed}' in output
    assert (tmp_path / 'epoch_3.pth').is_file()


def test_two_cpu_processes(write_config, student_config, run, tmp_path):
    """gloo, no unused parameters, validation and checkpoint."""
    output = run('bash', 'tools/dist_train.sh', write_config(), 2, '--work-dir', tmp_path)
    assert f'Epoch(train) [1][{ITERATIONS_PER_EPOCH // 2}/{ITERATIONS_PER_EPOCH // 2}]' in output
    assert re.search(r'loss_kd_fpn: \d', output) and re.search(r'gamma_fpn: \d', output)
    # The config's hooks see the pairs inside DDP.
    assert list(tmp_path.glob('*/vis_data/vis_image/pair_fpn_1.png'))
    assert_is_student_checkpoint(tmp_path / 'epoch_2.pth', student_config)
    tested = run(
        'bash', 'tools/dist_test.sh', write_config(), tmp_path / 'epoch_2.pth', 2,
        '--work-dir', tmp_path / 'test',
    )  # fmt: skip
    assert 'coco/bbox_mAP' in tested


def test_interrupted_processes_leave_a_checkpoint(
    write_config, student_config, environment, tmp_path
):
    log = tmp_path / 'log.txt'
    process = start(
        ['bash', 'tools/dist_train.sh', write_config(), 2, '--work-dir', tmp_path,
         '--cfg-options', 'train_cfg.max_epochs=1000'],
        environment,
        log,
    )  # fmt: skip
    wait_for(log, r'Epoch\(train\)\s+\[2\]', process)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=90)
    (path,) = tmp_path.glob('interrupted_iter_*.pth')
    assert_is_student_checkpoint(path, student_config)


def with_flags(write_config, kind, *flags):
    """The config after the flags have been applied."""
    parser = argparse.ArgumentParser()
    add_train_arguments(parser)
    cfg = Config.fromfile(write_config(kind))
    apply_train_arguments(cfg, parser.parse_args(flags))
    return cfg


def test_flags_add_hooks_once(write_config):
    cfg = with_flags(write_config, 'diffkd', '--exact-resume', '--check-teacher', '--resume')
    kinds = [hook['type'] for hook in cfg.custom_hooks]
    assert kinds.count('mmdiffkd.ExactResumeHook') == kinds.count('mmdiffkd.TeacherCheckHook') == 1
    assert cfg.resume == 'auto'


@pytest.mark.parametrize(
    ('kind', 'flags', 'message'),
    [
        ('student', ['--check-teacher'], '--check-teacher: .* is no distillation config'),
        ('diffkd', ['--check-teacher', '--no-validate'], 'needs a validation: .* no --no-validate'),
        ('diffkd', ['--auto-scale-lr'], 'needs auto_scale_lr.base_batch_size'),
        ('diffkd', ['--amp'], '--amp needs a GPU'),
    ],
)
def test_flags_that_cannot_be_used(write_config, monkeypatch, kind, flags, message):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit, match=message):
        with_flags(write_config, kind, *flags)


def test_training_policy_stands_in_the_config(write_config):
    """What is there already stays, and one key leaves everything out."""
    more = """custom_hooks = [
    dict(type='EMAHook'),
    dict(type='mmdiffkd.NonFiniteLossHook', priority='LOW'),
]
default_hooks['checkpoint']['type'] = 'CheckpointHook'"""
    cfg = Config.fromfile(write_config(more=more))
    cfg.launcher = 'pytorch'
    untouched = Config(dict(copy.deepcopy(cfg), training_policy=None))
    apply_training_policy(untouched)
    assert untouched.custom_hooks == cfg.custom_hooks and untouched.randomness == cfg.randomness
    assert untouched.default_hooks.checkpoint.type == 'CheckpointHook'
    apply_training_policy(cfg)
    assert [(hook['type'], hook.get('priority')) for hook in cfg.custom_hooks] == [
        ('EMAHook', None),
        ('mmdiffkd.NonFiniteLossHook', 'LOW'),
        ('mmdiffkd.InterruptHook', None),
    ]
    assert cfg.default_hooks.checkpoint.type == 'mmdiffkd.SafeCheckpointHook'
    assert cfg.default_hooks.checkpoint.save_best == 'coco/bbox_mAP'
    assert cfg.randomness == dict(seed=0, diff_rank_seed=True)
