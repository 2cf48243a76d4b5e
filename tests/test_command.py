"""The command of the installed package, and what all tools have in common."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mmdiffkd.__main__ as command
from mmdiffkd import __version__
from mmdiffkd.command_line import (
    TOOLS,
    add_config_arguments,
    add_train_arguments,
    command_of,
    flags_of,
    tell_loading,
)

ROOT = Path(__file__).parents[1]

# Runs each tool that the arguments name with --help.
HELP = """
import contextlib, io, runpy, sys
for path in sys.argv[1:]:
    sys.argv = [path, '--help']
    sys.path[0] = path.rpartition('/')[0]
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        runpy.run_path(path, run_name='__main__')
    assert 'usage: ' in printed.getvalue(), path
    assert 'torch' not in sys.modules, path
"""


@pytest.fixture
def run(monkeypatch, capsys):
    """Run ``mmdiffkd`` with arguments; returns what it printed."""

    def run(*arguments, name='/bin/mmdiffkd'):
        monkeypatch.setattr(sys, 'argv', [name, *arguments])
        monkeypatch.setattr(sys, 'path', [*sys.path])
        try:
            command.main()
        except SystemExit as end:
            return end.code, capsys.readouterr().err
        return 0, capsys.readouterr().out

    return run


def test_help_does_not_wait_for_torch():
    folders = (ROOT / 'tools', ROOT / 'tools/analysis')
    tools = [path for folder in folders for path in folder.glob('[!_]*.py')]
    tools = [path for path in tools if path.stem != 'quickstart_stages']
    assert len(tools) >= 9
    subprocess.run([sys.executable, '-c', HELP, *map(str, tools)], check=True, cwd=ROOT)


def test_overview_and_version(run):
    status, listed = run()
    assert status == 0 and run('help') == run('--help') == (0, listed)
    for tool in ('train', 'plot_run', 'noise_sweep'):
        assert re.search(rf'^  {tool} +[A-Z]', listed, re.MULTILINE)
    assert run('--version') == (0, f'mmdiffkd {__version__}\n')


@pytest.mark.parametrize('words', ['help plot_run', 'plot-run --help', 'plot_run -h'])
def test_help_of_a_tool(words, run, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['/bin/mmdiffkd', *words.split()])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith('usage: mmdiffkd plot_run [-h]')


@pytest.mark.parametrize(
    ('name', 'said'), [('trian', "'trian'; did you mean 'train'?"), ('x', "'x'; it has compare, ")]
)
def test_unknown_tool(name, said, run):
    status, line = run(name)
    assert status == 1 and line.startswith(f'error: mmdiffkd has no tool {said}')


@pytest.mark.parametrize('words', ['-m mmdiffkd', 'tools/train.py --help'])
@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_nobody_reads_the_output(words, unbuffered):
    """The status is that of other commands behind a closed pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, 'PYTHONUNBUFFERED': unbuffered}
    options = dict(stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    result = subprocess.run([sys.executable, *words.split()], **options)
    os.close(writing)
    # argparse itself passes over it where the help is written without a buffer.
    assert result.returncode == 141 or (unbuffered and '--help' in words)
    assert result.stderr == ''


@pytest.mark.parametrize(
    ('started', 'hint'),
    [
        ('tools/distill.py', 'python tools/analysis/plot_run.py'),
        ('mmdiffkd distill', 'mmdiffkd plot_run'),
        ('python -m mmdiffkd distill', 'python -m mmdiffkd plot_run'),
        ('my/train.py', 'mmdiffkd plot_run'),
    ],
)
def test_hints_are_commands_that_work(started, hint, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [started])
    monkeypatch.chdir(TOOLS.resolve().parent)
    assert command_of('analysis/plot_run') == hint


def test_flags_of_a_run_are_repeated():
    """In the report of its smoke run; they mean the same again."""
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    add_train_arguments(parser)
    words = ['--cfg-options', 'a.b=[1,(x,2)]', 'c=None', '--amp', '--resume', '--launcher', 'mpi']
    args = parser.parse_args(['config.py', '--smoke', '--work-dir', 'here', *words])
    again = parser.parse_args(['config.py', *flags_of(args)])
    assert vars(again) == {**vars(args), 'smoke': False, 'work_dir': None}


def test_only_the_first_process_tells_that_it_is_loading(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['tools/train.py'])
    for rank in ('1', '0', '0'):
        monkeypatch.setenv('RANK', rank)
        tell_loading()
    assert capsys.readouterr().err == 2 * 'train.py: loading torch and the model libraries ...\n'
