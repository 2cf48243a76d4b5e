"""What a user sees who gives the tools something that cannot work: one line, and nothing is lost.

The rows are in ``bad_inputs.py``.
"""

import json
import runpy
import sys

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from . import bad_inputs as table
from .conftest import ROOT
from .toy_run import write_toy_run


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
