"""What the tools say about an input that cannot work: one line, and no file is changed."""

import subprocess

import pytest

from ..toy_run import toy_run
from .conftest import ROOT

TEACHER, PAIR = "model['teacher']", "model['pairs']['fpn']"


@pytest.fixture
def folder(tmp_path, toy_config):
    cfg = toy_run(toy_config, 'work_dirs')
    for part in ('val', 'test'):
        cfg[f'{part}_dataloader'], cfg[f'{part}_cfg'] = cfg.train_dataloader, {}
        cfg[f'{part}_evaluator'] = dict(type='MeanLogit')
    cfg.dump(tmp_path / 'config.py')
    cfg.model = toy_config['student']
    cfg.dump(tmp_path / 'student.py')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'train.json').write_text('{}')
    return tmp_path


@pytest.fixture
def refused(folder, run_here):
    """Run a tool in the folder; returns the one line that it ended with."""

    def contents():
        files = (path for path in folder.rglob('*') if path.is_file())
        return {path: path.read_bytes() for path in files if 'work_dirs' not in path.parts}

    def run(tool, *argv):
        before = contents()
        output = run_here(f'tools/{tool}', *argv, expect=None, cwd=folder)
        (line,) = [line for line in output.splitlines() if line.startswith('error: ')]
        assert 'Traceback' not in output
        assert contents() == before
        return line

    return run


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ("model['student'] = 'student_r50.py'", "student: no file 'student_r50.py'"),
        (f"{TEACHER}['chekpoint'] = 'x'", "unknown key 'chekpoint'; did you mean 'checkpoint'"),
        (f"{TEACHER}['checkpoint'] = 'nope.pth'", "checkpoint: no file 'nope.pth'"),
        (f"{TEACHER}['checkpoint'] = 'http://127.0.0.1:9/x.pth'", 'cannot be downloaded: '),
        (f"{TEACHER}['config']['width'] = 16", 'wrongly shaped'),
        (f"{PAIR}['hed'] = 1", "pairs.fpn: unknown key 'hed'; did you mean 'head'?"),
        (f"{PAIR}['student'] = 'nek'", "'nek'; the closest are 'neck'"),
        ("train_dataloader['dataset']['metainfo'] = dict(classes=('bolt'))", "classes=('bolt',)"),
        ("model = dict(type='ToyModel', widht=8)", 'model cannot be built: TypeError: '),
        ("optim_wrapper['optimizer']['lr'] = '1e-3'", 'optim_wrapper cannot be built: TypeError: '),
        ("param_scheduler = [dict(type='StepLRR')]", 'param_scheduler cannot be built: KeyError: '),
        ("custom_hooks = [dict(type='EMAHok')]", 'custom_hooks cannot be built: KeyError: '),
        (
            "default_hooks = dict(timer=dict(type='Timer'))",
            'the runner cannot be built: KeyError: ',
        ),
        ("train_cfg['max_epoch'] = 3", 'or its loop cannot be built: TypeError: '),
        (
            "optim_wrapper['clip_grad'] = dict(max_nrm=35)",
            'the training failed after 0 training steps: TypeError: ',
        ),
        (
            "custom_hooks = [dict(type='ProfilerHook', on_trace_ready=3)]",
            'the training failed after 0 training steps: ValueError: ',
        ),
        ("load_from = 'data/train.json'", 'was not read, because it is damaged'),
        ('a = (', "config: 'config.py' cannot be read: SyntaxError"),
    ],
)
def test_configs(change, said, refused, folder):
    with (folder / 'config.py').open('a') as config:
        config.write(f'\n{change}\n')
    assert said in refused('train.py', 'config.py')


@pytest.mark.parametrize(
    ('command', 'said'),
    [
        ('train.py', 'the following arguments are required: config'),
        ('train.py mmrotate::x.py', "config: 'mmrotate::x.py' needs mmrotate"),
        (
            'train.py mmdifkd::x/x.py',
            "needs mmdifkd, which is not installed; did you mean 'mmdiffkd'",
        ),
        (
            'train.py mmdiffkd::dist/resnet34_resnet18_imagnet.py',
            "has no config 'dist/resnet34_resnet18_imagnet.py'; did you",
        ),
        ('train.py config.py --smok3', "unrecognized arguments: --smok3; did you mean '--smoke'"),
        ('train.py config.py --launcher torch', "--launcher: invalid choice: 'torch'"),
        ('train.py config.py --cfg-options train_cfg', "'train_cfg' is not KEY=VALUE"),
        ('train.py config.py --cfg-options trian_cfg.x=3', "did you mean 'train_cfg'"),
        ('train.py config.py --work-dir student.py', "work_dir: 'student.py' cannot be made"),
        ('train.py config.py --check-teacher --no-validate', '--check-teacher needs a validation'),
        ('train.py student.py --check-teacher', 'is no distillation config'),
        ('train.py config.py --auto-scale-lr', 'needs auto_scale_lr.base_batch_size'),
        ('train.py config.py --smoke', "no miniature of 'FourImages'"),
        ('test.py config.py', 'a checkpoint is required unless --teacher is given'),
        ('test.py config.py teacher.pth --show', '--show needs default_hooks.visualization'),
        ('export_student.py teacher.pth config.py', 'config.py exists; --force overwrites it'),
        ('export_student.py teacher.pth teacher.pth --force', 'is the checkpoint itself'),
        ('distill.py student.py --teacher student.py', '--teacher-checkpoint is needed'),
        ('make_mini_dataset.py coco data', 'exists and holds other data'),
        ('make_mini_dataset.py coco new --num-train -1', 'num_train must be an integer from 1'),
        ('analysis/plot_run.py nope', 'nope: no entry of a training'),
        ('analysis/noise_sweep.py config.py teacher.pth', 'has no distill. weights'),
    ],
)
def test_commands(command, said, refused):
    assert said in refused(*command.split())


@pytest.mark.parametrize(
    ('command', 'said'),
    [
        ('dist_train.sh config.py', 'usage: bash tools/dist_train.sh CONFIG GPUS'),
        ('dist_train.sh config.py 0', "error: GPUS must be a number from 1, got '0'"),
        ('dist_test.sh config.py x.pth x', "error: GPUS must be a number from 1, got 'x'"),
        ('slurm_train.sh partition name', 'usage: bash tools/slurm_train.sh PARTITION'),
    ],
)
def test_launching_scripts(command, said):
    script, *arguments = command.split()
    result = subprocess.run(
        ['bash', ROOT / 'tools' / script, *arguments], text=True, capture_output=True
    )
    (line,) = result.stderr.splitlines()
    assert result.returncode == 2
    assert line.startswith(said)
