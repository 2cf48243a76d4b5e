"""What a user sees who gives the tools something that cannot work: one line, and nothing is lost.

The rows are in ``bad_inputs.py``.
"""

import json
import os
import runpy
import subprocess
import sys

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from . import bad_inputs as table
from .conftest import ROOT, make_environment
from .toy_files import write_toy_run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_toy_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)
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
        monkeypatch.setattr(sys, 'argv', [str(ROOT / 'tools' / tool), *map(str, argv)])
        monkeypatch.setattr(sys, 'path', [*sys.path])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            runpy.run_path(sys.argv[0], run_name='__main__')
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        line = lines[0]
        assert end.value.code in (1, 2)
        assert line.startswith('error: ')
        after = contents()
        assert {path: after.get(path) for path in before} == before
        return line

    return run


def rows(*tables):
    return [pytest.param(row, id=row.wrong.replace(' ', '-')) for table in tables for row in table]


@pytest.mark.parametrize(
    'row',
    rows(
        table.MODEL,
        table.PAIRS,
        table.LOCATIONS,
        table.DATA_SETS,
        table.RUNS,
        table.CONFIGS,
        table.FLAGS,
    ),
)
def test_training(row, refused, folder):
    with (folder / 'config.py').open('a') as config:
        config.write(f'\n{row.change}\n')
    if row.make is not None:
        row.make(folder)
    assert row.said in refused('train.py', 'config.py', *row.argv)


@pytest.mark.parametrize('row', rows(table.CHECKPOINTS))
def test_checkpoints(row, refused, folder):
    """One file for the tools that read it, and for the teacher."""
    row.make(folder)
    assert row.said in refused('test.py', 'config.py', 'bad.pth')
    if 'does not fit' not in row.said:
        assert row.said in refused('export_student.py', 'bad.pth', 'out.pth')
        assert not (folder / 'out.pth').exists()
    with (folder / 'config.py').open('a') as config:
        config.write(f"\n{table.TEACHER}['checkpoint'] = 'bad.pth'\n")
    line = refused('train.py', 'config.py')
    assert row.said in line and line.startswith('error: teacher.')


@pytest.mark.parametrize(('tool', 'argv', 'said'), table.OTHER_TOOLS)
def test_other_tools(tool, argv, said, refused):
    assert said in refused(tool, *argv.split())


@pytest.mark.parametrize('line', ['not JSON', '[1]', '{"iter": "x"}'])
def test_log_that_is_none(line, refused, folder):
    (folder / 'vis_data').mkdir()
    (folder / 'vis_data' / 'scalars.json').write_text(
        f'{json.dumps(dict(iter=1, loss=1))}\n{line}\n'
    )
    assert 'scalars.json, line 2: ' in refused('analysis/plot_run.py', '.')


# Python imports it by itself when it starts.
BLOCKER = """
import os
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if f'{name}.'.startswith(os.environ['BLOCKED'] + '.'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture
def ended(tmp_path):
    """Run a command without a module; returns its status and what it wrote to stderr."""
    (tmp_path / 'sitecustomize.py').write_text(BLOCKER)

    def run(*command, without='nothing'):
        path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get('PYTHONPATH')]))
        result = subprocess.run(
            [str(argument) for argument in command],
            cwd=ROOT,
            env={**make_environment(), 'PYTHONPATH': path, 'BLOCKED': without},
            text=True,
            capture_output=True,
        )
        return result.returncode, result.stderr

    return run


@pytest.mark.parametrize(
    ('without', 'said'),
    [
        (
            'mmdet',
            "'mmdet::_base_/models/retinanet_r50_fpn.py' needs mmdet, which is not installed",
        ),
        ('mmcv._ext', "No module named 'mmcv._ext': mmcv was built without its operations"),
        ('mmengine', "No module named 'mmengine'"),
    ],
)
def test_libraries_that_are_missing(without, said, ended, write_config, tmp_path):
    status, output = ended(
        sys.executable, 'tools/train.py', write_config(), '--work-dir', tmp_path, without=without
    )
    (line,) = [line for line in output.splitlines() if line.startswith('error: ')]
    assert status == 1
    assert said in line
    assert 'Traceback' not in output


def test_debug_shows_the_traceback(ended, tmp_path):
    status, output = ended(
        sys.executable, '-m', 'mmdiffkd', 'train', tmp_path / 'nope.py', '--debug'
    )
    assert status == 1
    assert output.startswith('Traceback') and 'no file' in output.splitlines()[-1]


@pytest.mark.parametrize(
    ('command', 'said'),
    [
        ('dist_train.sh config.py', 'usage: bash tools/dist_train.sh CONFIG GPUS'),
        ('dist_train.sh config.py x', "error: GPUS must be a number from 1, got 'x'"),
        ('dist_train.sh config.py 0', "error: GPUS must be a number from 1, got '0'"),
        ('dist_test.sh config.py x.pth -1', "error: GPUS must be a number from 1, got '-1'"),
        ('slurm_train.sh partition name', 'usage: bash tools/slurm_train.sh PARTITION'),
    ],
)
def test_launching_scripts(command, said, ended):
    script, *arguments = command.split()
    status, output = ended('bash', f'tools/{script}', *arguments)
    (line,) = output.splitlines()
    assert status == 2
    assert line.startswith(said)
