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


def test_log_shows_losses_and_gamma(trained):
    _, _, output = trained
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


def test_checkpoint_is_required(trained, run):
    assert 'a checkpoint is required' in run('tools/test.py', trained[0], expect=2)


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
@pytest.mark.parametrize('sent', [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_a_checkpoint(
    sent, write_config, student_config, environment, run, tmp_path
):
    config, log = write_config(), tmp_path / 'log.txt'
    command = [sys.executable, 'tools/train.py', config, '--work-dir', tmp_path, '--cfg-options']
    process = start([*command, 'train_cfg.max_epochs=1000'], environment, log)
    wait_for(log, r'Epoch\(train\)\s+\[2\]', process)
    process.send_signal(sent)
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


def test_signal_to_the_process_group(write_config, student_config, environment, tmp_path):
    """Schedulers signal the data loading workers as well."""
    config = write_config(more='train_dataloader.update(num_workers=2, persistent_workers=True)')
    log = tmp_path / 'log.txt'
    process = start(
        [sys.executable, 'tools/train.py', config, '--work-dir', tmp_path,
         '--cfg-options', 'train_cfg.max_epochs=1000'],
        environment,
        log,
        start_new_session=True,
    )  # fmt: skip
    wait_for(log, r'Epoch\(train\)\s+\[2\]', process)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 130, log.read_text()[-5000:]
    (path,) = tmp_path.glob('interrupted_iter_*.pth')
    assert_is_student_checkpoint(path, student_config)


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


def test_distillation_for_one_iteration_of_two_processes(write_config, run, tmp_path):
    """DDP waits for every parameter; those of a pair that rests stay as they are."""
    schedule = "dict(type='mmdiffkd.DistillationScheduleHook', begin=1, end=2, by_epoch=False)"
    # An untrained teacher is sure of nothing; without a threshold it still finds something.
    teacher = tmp_path / 'teacher.py'
    base = ROOT / 'configs' / 'quickstart' / 'retinanet_teacher_mini-coco.py'
    teacher.write_text(f"_base_ = '{base}'\nmodel = dict(test_cfg=dict(score_thr=0.0))\n")
    more = f"custom_hooks = [{schedule}]\nmodel['teacher']['config'] = '{teacher}'"
    config = write_config(more=more)
    output = run(
        'bash', 'tools/dist_train.sh', config, 2, '--work-dir', tmp_path, '--check-teacher'
    )
    weights = [
        torch.load(tmp_path / f'epoch_{epoch}.pth', weights_only=False)['state_dict']
        for epoch in (1, 2)
    ]
    changed = {key for key in weights[0] if not torch.equal(weights[0][key], weights[1][key])}
    assert 'backbone.layer4.1.conv2.weight' in changed
    assert not [key for key in changed if key.startswith('distill.')]
    shown = re.findall(r'kd_weight_fpn: ([\d.]+).*?loss_kd_fpn: ([\d.]+)', output)
    assert [float(weight) for weight, _ in shown] == [0, 1, 0, 0]
    assert [float(loss) > 0 for _, loss in shown] == [False, True, False, False]
    # Of both processes' images.
    assert 'RetinaNet on 4 images' in output
    assert re.search(r'teacher/coco/bbox_mAP: [\d.-]+', output)
    assert 'the teacher has random weights' in output


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


def process_of_rank(rank, launcher):
    """The process that torchrun has started for a rank."""
    for child in Path(f'/proc/{launcher.pid}/task/{launcher.pid}/children').read_text().split():
        if f'RANK={rank}' in Path(f'/proc/{child}/environ').read_text().split('\0'):
            return int(child)
    raise AssertionError(f'no process of rank {rank}')


def test_a_killed_process_ends_the_run(write_config, student_config, environment, tmp_path):
    """As the kernel kills one for want of memory: the other says so and saves."""
    log = tmp_path / 'log.txt'
    process = start(
        ['bash', 'tools/dist_train.sh', write_config(), 2, '--work-dir', tmp_path,
         '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1000'],
        environment,
        log,
    )  # fmt: skip
    wait_for(log, r'Epoch\(train\)\s+\[3\]', process)
    os.kill(process_of_rank(1, process), signal.SIGKILL)
    assert process.wait(timeout=60) != 0
    output = log.read_text()
    (line,) = re.findall('^error: .*', output, re.MULTILINE)
    assert line.startswith('error: rank 0 of 2: lost contact with another process of the run: ')
    # torchrun shows its own traceback, and which process it was.
    assert '/mmdiffkd/apis/' not in output and 'SIGKILL' in output
    (path,) = tmp_path.glob('interrupted_iter_*.pth')
    assert Path((tmp_path / 'last_checkpoint').read_text()) == path
    assert_is_student_checkpoint(path, student_config)
    completed = torch.load(path, weights_only=False)['meta']['iter']
    assert completed == int(path.stem.rpartition('_')[2]) >= ITERATIONS_PER_EPOCH


def test_flags(write_config, run, tmp_path):
    output = run(
        'tools/train.py', write_config(), '--work-dir', tmp_path, '--no-validate',
        '--cfg-options', 'train_cfg.max_epochs=1',
    )  # fmt: skip
    assert 'Epoch(val)' not in output
    assert (tmp_path / 'epoch_1.pth').is_file()
    message = run('tools/train.py', write_config(), '--auto-scale-lr', expect=1)
    assert 'auto_scale_lr.base_batch_size' in message
    assert '--amp needs a GPU' in run('tools/train.py', write_config(), '--amp', expect=1)


@pytest.mark.parametrize(
    ('kind', 'flags', 'message'),
    [
        ('student', [], '--check-teacher: .* is no distillation config'),
        ('diffkd', ['--no-validate'], '--check-teacher needs a validation: .* no --no-validate'),
    ],
)
def test_teacher_that_cannot_be_checked(write_config, kind, flags, message):
    parser = argparse.ArgumentParser()
    add_train_arguments(parser)
    args = parser.parse_args(['--check-teacher', *flags])
    with pytest.raises(SystemExit, match=message):
        apply_train_arguments(Config.fromfile(write_config(kind)), args)
