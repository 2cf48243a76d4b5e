"""tools/setup_env.sh installs the requested stack; a fake Python records what it would install."""

import os
import re
import shutil
import subprocess

import pytest

from .conftest import ROOT

# Records its arguments, and pretends to have the builds in $INSTALLED.
PYTHON = """\
#!/bin/bash
echo "$*" >>"$CALLS"
if [ "$1" = - ]; then
    [ -n "$INSTALLED" ] && [[ $INSTALLED == "${2:-$INSTALLED}" ]]
elif [[ $* == *sys.prefix* ]]; then
    echo "$PREFIX"
fi
"""


@pytest.fixture
def set_up(tmp_path):
    """Run the script in a tree with empty environments; returns the calls of Python."""
    shutil.copytree(ROOT / 'requirements', tmp_path / 'requirements')
    for name in ('tools/setup_env.sh', 'setup.py'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)

    def write(name, text, mode=0o755):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    write('bin/python', PYTHON)
    # Nothing takes time here.
    write('bin/sleep', '#!/bin/sh\n')
    for venv in ('.venv', '.venv-openmmlab'):
        write(f'{venv}/bin/python', PYTHON)
        write(f'{venv}/bin/activate', f'export PREFIX={tmp_path / venv}\n')

    def run(installed='', **variables):
        calls = tmp_path / 'calls'
        calls.write_text('')
        result = subprocess.run(
            ['bash', 'tools/setup_env.sh'],
            cwd=tmp_path,
            env=dict(
                PATH=f'{tmp_path / "bin"}:{os.environ["PATH"]}',
                PREFIX=str(tmp_path),
                CALLS=str(calls),
                INSTALLED=installed,
                **variables,
            ),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return result, re.findall(r'^-m pip install .* -q (.*)', calls.read_text(), re.MULTILINE)

    return run


@pytest.mark.parametrize(
    ('variables', 'venv', 'engine', 'mmcv'),
    [
        ({}, '.venv', 'onedl-mmengine==', 'onedl-mmcv=='),
        ({'MMDIFFKD_STACK': 'openmmlab'}, '.venv-openmmlab', 'mmengine==', 'mmcv=='),
    ],
)
def test_each_stack_has_its_environment(variables, venv, engine, mmcv, set_up, tmp_path):
    result, installed = set_up(**variables)
    assert result.returncode == 0, result.stdout
    build, torch, compiled, hosts, ours, package = installed
    assert re.fullmatch(r'setuptools>=\S+ wheel ninja psutil packaging', build)
    assert re.fullmatch(r'torch==\S+ torchvision==\S+', torch)
    assert re.fullmatch(rf'--no-build-isolation {engine}\S+ {mmcv}\S+', compiled)
    pins = tmp_path / 'requirements' / f'{variables.get("MMDIFFKD_STACK", "onedl")}.txt'
    assert hosts == f'-r {pins}'
    assert 'tests.txt' in ours and package.endswith(f'-e {tmp_path}')
    assert (tmp_path / venv / 'mmdiffkd-setup').is_file()
    # All is there now.
    assert set_up(**variables)[1] == []


@pytest.mark.parametrize(
    ('installed', 'stack', 'used'),
    [
        ('onedl-mmengine', '', True),
        ('mmengine', 'openmmlab', True),
        ('onedl-mmengine', 'openmmlab', False),
        ('mmengine', 'onedl', False),
    ],
)
def test_active_environment_is_used_if_it_has_the_stack(installed, stack, used, set_up, tmp_path):
    result, packages = set_up(installed, MMDIFFKD_STACK=stack)
    assert result.returncode == 0, result.stdout
    assert (tmp_path / 'mmdiffkd-setup').is_file() == used
    assert any('torch==' in words for words in packages) != used
    # What is added to an environment of the user is announced.
    assert (f'active environment, {tmp_path}:' in result.stdout) == used


def test_unknown_stack(set_up):
    result, packages = set_up(MMDIFFKD_STACK='mmlab')
    assert result.returncode == 1 and not packages
    assert "MMDIFFKD_STACK must be onedl or openmmlab, got 'mmlab'" in result.stdout
