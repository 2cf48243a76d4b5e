"""tools/setup_env.sh installs the requested stack; a fake Python records what it would install."""

import re
import shutil
import subprocess

import pytest

from .conftest import ROOT

# Records its arguments, and pretends to have the builds in $INSTALLED.
PYTHON = """\
#!/bin/bash
echo "$*" >>"$CALLS"
if [[ $* == *no-build-isolation*mmcv* ]]; then
    echo "FORCE_CUDA=$FORCE_CUDA CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES-unset}" >>"$CALLS"
elif [[ $* == *get_compiling_cuda_version* ]]; then
    [ -n "$PREBUILT" ]
elif [[ $* == *'"with CUDA"'* ]]; then
    echo torch 2.8.0+cu128 with CUDA 12.8
elif [ "$1" = - ]; then
    [ -n "$INSTALLED" ] && [[ $INSTALLED == "${2:-$INSTALLED}" ]]
elif [[ $* == *sys.prefix* ]]; then
    echo "$PREFIX"
fi
"""


@pytest.fixture
def tree(tmp_path):
    """The folder of the source tree."""
    return tmp_path / 'a folder'


@pytest.fixture
def set_up(tree):
    """Run the script in a tree with empty environments; returns the calls of Python.

    Programs of the machine, such as a compiler for CUDA, are hidden from it.
    """
    shutil.copytree(ROOT / 'requirements', tree / 'requirements')
    for name in ('tools/setup_env.sh', 'setup.py'):
        (tree / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tree / name)

    def write(name, text='#!/bin/sh\n', mode=0o755):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    write('bin/python', PYTHON)
    # Nothing takes time here.
    write('bin/sleep')
    for name in ('bash', 'cat', 'chmod', 'dirname', 'grep', 'ls', 'tail'):
        (tree / 'bin' / name).symlink_to(shutil.which(name))

    def run(installed='', programs=(), **variables):
        calls = tree / 'calls'
        calls.write_text('')
        for name in programs:
            write(f'bin/{name}', f'#!/bin/sh\necho {name} of this machine\n')
        for venv in ('.venv', '.venv-openmmlab', '.venv-python-torch2.14.1'):
            write(f'{venv}/bin/python', PYTHON)
            write(f'{venv}/bin/activate', f'export PREFIX="{tree / venv}"\n')
        result = subprocess.run(
            ['bash', '-euc', 'source tools/setup_env.sh'],
            cwd=tree,
            env=dict(
                PATH=f'{tree / "bin"}',
                HOME='/nowhere',
                CUDA_HOME='/nowhere',
                PREFIX=str(tree),
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
def test_each_stack_has_its_environment(variables, venv, engine, mmcv, set_up, tree):
    result, installed = set_up(**variables)
    assert result.returncode == 0, result.stdout
    build, torch, compiled, hosts, ours, package = installed
    assert re.fullmatch(r'setuptools>=\S+ wheel ninja psutil packaging', build)
    assert re.fullmatch(r'torch==\S+ torchvision==\S+', torch)
    assert re.fullmatch(rf'--no-build-isolation {engine}\S+ {mmcv}\S+', compiled)
    assert hosts == f'-r {tree / venv}/hosts.txt'
    assert mmcv in (tree / venv / 'hosts.txt').read_text()
    assert 'tests.txt' in ours and package.endswith(f'-e {tree}')
    assert (tree / venv / 'mmdiffkd-setup').is_file()
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
def test_active_environment_is_used_if_it_has_the_stack(installed, stack, used, set_up, tree):
    result, packages = set_up(installed, MMDIFFKD_STACK=stack)
    assert result.returncode == 0, result.stdout
    assert (tree / 'mmdiffkd-setup').is_file() == used
    assert any('torch==' in words for words in packages) != used
    # What is added to an environment of the user is announced.
    assert (f'active environment, {tree}:' in result.stdout) == used


def test_unknown_stack(set_up):
    result, packages = set_up(MMDIFFKD_STACK='mmlab')
    assert result.returncode == 1 and not packages
    assert "MMDIFFKD_STACK must be onedl or openmmlab, got 'mmlab'" in result.stdout


def test_asked_versions_have_an_environment_of_their_own(set_up, tree):
    result, installed = set_up('onedl-mmengine', MMDIFFKD_PYTHON='python', MMDIFFKD_TORCH='2.14.1')
    assert result.returncode == 0, result.stdout
    assert 'torch==2.14.1 torchvision' in installed
    venv = tree / '.venv-python-torch2.14.1'
    assert (venv / 'mmdiffkd-setup').is_file()
    assert not re.search('^torch', (venv / 'hosts.txt').read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ('programs', 'variables', 'built'),
    [
        ([], {}, 'FORCE_CUDA=0 CUDA_VISIBLE_DEVICES=\n'),
        (['nvcc'], {}, 'FORCE_CUDA=0 CUDA_VISIBLE_DEVICES=\n'),
        (['nvcc'], {'FORCE_CUDA': '1'}, 'FORCE_CUDA=1 CUDA_VISIBLE_DEVICES=unset\n'),
        (['nvidia-smi', 'nvcc'], {}, 'FORCE_CUDA=1 CUDA_VISIBLE_DEVICES=unset\n'),
        (['nvidia-smi', 'nvcc'], {'FORCE_CUDA': '0'}, 'FORCE_CUDA=0 CUDA_VISIBLE_DEVICES=\n'),
        (['nvidia-smi'], {'FORCE_CUDA': '0'}, 'FORCE_CUDA=0 CUDA_VISIBLE_DEVICES=\n'),
    ],
)
def test_mmcv_is_compiled_for_what_is_there(programs, variables, built, set_up, tree):
    """For the CPU even if torch would find a GPU, as mmcv's setup.py then compiles with CUDA."""
    result, _ = set_up(programs=programs, **variables)
    assert result.returncode == 0, result.stdout
    assert built in (tree / 'calls').read_text()
    gpu = 'nvidia-smi of this machine' if 'nvidia-smi' in programs else 'none'
    assert f'GPU: {gpu}; nvcc: ' in result.stdout


@pytest.mark.parametrize('stack', ['onedl', 'openmmlab'])
def test_gpu_without_nvcc(stack, set_up):
    """Nothing is compiled; with the prebuilt mmcv that the message names, the script goes on."""
    result, installed = set_up(programs=['nvidia-smi'], MMDIFFKD_STACK=stack)
    assert result.returncode == 1
    assert not any('mmcv' in words for words in installed)
    assert 'torch 2.8.0+cu128 with CUDA 12.8' in result.stdout and 'FORCE_CUDA=0' in result.stdout
    assert ('/a folder/.venv/bin/mim" install' in result.stdout) == (stack == 'onedl')
    result, installed = set_up(programs=['nvidia-smi'], MMDIFFKD_STACK=stack, PREBUILT='1')
    assert result.returncode == 0, result.stdout
