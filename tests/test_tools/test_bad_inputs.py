"""What the tools say about an input that cannot work: one line, and no file is changed."""

import json
import runpy
import subprocess
import sys

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from .conftest import ROOT
from .toy_files import write_toy_run

TEACHER, PAIR = "model['teacher']", "model['pairs']['fpn']"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_toy_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    # Named by the second, they would be those of the run before, whose output is closed.
    for kind in (MMLogger, MessageHub, DefaultScope, Visualizer):
        kind._instance_dict.clear()
    return tmp_path


@pytest.fixture
def refused(folder, capsys, monkeypatch):
    """Run a tool in this process; returns the one line that it ended with."""

    def contents():
        files = (path for path in folder.rglob('*') if path.is_file())
        return {path: path.read_bytes() for path in files if 'work_dirs' not in path.parts}

    def run(tool, *argv):
        before = contents()
        monkeypatch.setattr(sys, 'argv', [str(ROOT / 'tools' / tool), *argv])
        monkeypatch.setattr(sys, 'path', [*sys.path])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            runpy.run_path(sys.argv[0], run_name='__main__')
        (line,) = capsys.readouterr().err.splitlines()
        assert end.value.code in (1, 2)
        assert line.startswith('error: ')
        assert contents() == before
        return line

    return run


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ("model['teacher'] = 'mmdet::x'", 'teacher must be a dict with the keys config'),
        ("model['student'] = 'student_r50.py'", "student: no file 'student_r50.py'"),
        (f"{TEACHER}['chekpoint'] = 'x'", "unknown key 'chekpoint'; did you mean 'checkpoint'"),
        (f"{TEACHER}['config'] = 'mmrotate::x.py'", 'needs mmrotate, which is not installed'),
        (f"{TEACHER}['checkpoint'] = 'nope.pth'", "checkpoint: no file 'nope.pth'"),
        (f"{TEACHER}['checkpoint'] = 'http://127.0.0.1:9/x.pth'", 'cannot be downloaded: '),
        (f"{TEACHER}['config']['width'] = 16", 'wrongly shaped'),
        ("model['pairs'] = {}", 'pairs must be a dict with at least one pair, got {}'),
        (f"{PAIR}['hed'] = 1", "pairs.fpn: unknown key 'hed'; did you mean 'head'?"),
        (f"{PAIR}['student'] = 'nek'", "'nek'; the closest are 'neck'"),
        (f"{PAIR}['student'] = 'neck['", "module path 'neck[' is not of the form"),
        ('train_cfg = None', 'has no train_cfg'),
        ("load_from = 'nope.pth'", "checkpoint: no file 'nope.pth'"),
        ("load_from = 'data/train.json'", 'was not read, because it is damaged'),
        ('a = (', "config: 'config.py' cannot be read: SyntaxError"),
        ("_base_ = 'nope.py'", 'nope.py'),
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
        ('train.py nope.py', "config: no file 'nope.py' (looked from"),
        ('train.py mmrotate::x.py', "config: 'mmrotate::x.py' needs mmrotate"),
        ('train.py data/train.json', 'has no model, train_dataloader'),
        ('train.py config.py --smok3', "unrecognized arguments: --smok3; did you mean '--smoke'"),
        ('train.py config.py --launcher torch', "--launcher: invalid choice: 'torch'"),
        ('train.py config.py --cfg-options train_cfg', "'train_cfg' is not KEY=VALUE"),
        ('train.py config.py --cfg-options a=[1,2', "'a=[1,2' is not KEY=VALUE"),
        ('train.py config.py --cfg-options trian_cfg.x=3', "did you mean 'train_cfg'"),
        ('train.py config.py --cfg-options param_scheduler.9.end=1', '--cfg-options: '),
        ('train.py config.py --work-dir student.py', "work_dir: 'student.py' cannot be made"),
        ('train.py config.py --work-dir .', 'which the run would overwrite'),
        ('train.py config.py --resume nope.pth', 'nope.pth'),
        ('train.py config.py --check-teacher --no-validate', '--check-teacher needs a validation'),
        ('train.py student.py --check-teacher', 'is no distillation config'),
        ('train.py config.py --auto-scale-lr', 'needs auto_scale_lr.base_batch_size'),
        ('train.py config.py --smoke', "--smoke: no miniature of 'ToyDataset'"),
        ('train.py config.py --launcher pytorch', 'RANK'),
        ('train.py config.py --amp', '--amp needs a GPU'),
        ('test.py config.py', 'a checkpoint is required unless --teacher is given'),
        ('test.py config.py nope.pth', "checkpoint: no file 'nope.pth'"),
        ('test.py student.py --teacher', 'is no distillation config'),
        ('test.py config.py teacher.pth --show', '--show needs default_hooks.visualization'),
        ('export_student.py nope.pth out.pth', "checkpoint: no file 'nope.pth'"),
        ('export_student.py teacher.pth config.py', 'config.py exists; --force overwrites it'),
        ('export_student.py teacher.pth teacher.pth --force', 'is the checkpoint itself'),
        ('export_student.py config.py out.pth', 'was not read, because it is damaged'),
        ('distill.py nope.py --teacher student.py --smoke', "student: no file 'nope.py'"),
        ('distill.py student.py --teacher student.py', '--teacher-checkpoint is needed'),
        ('make_mini_dataset.py coco data', 'exists and is no miniature data set'),
        ('make_mini_dataset.py coco new --num-train -1', 'num_train must be in 1..'),
        ('analysis/plot_run.py nope', 'nope: no such folder'),
        ('analysis/noise_sweep.py config.py teacher.pth', 'has no distill. weights'),
    ],
)
def test_commands(command, said, refused):
    assert said in refused(*command.split())


@pytest.mark.parametrize('line', ['not JSON', '{"iter": "x"}'])
def test_log_that_is_none(line, refused, folder):
    (folder / 'vis_data').mkdir()
    log = f'{json.dumps(dict(iter=1, loss=1))}\n{line}\n'
    (folder / 'vis_data' / 'scalars.json').write_text(log)
    assert 'scalars.json, line 2: ' in refused('analysis/plot_run.py', '.')


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
