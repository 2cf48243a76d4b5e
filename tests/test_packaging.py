"""What is built from the source tree, and that it works where there is none."""

import os
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from mmdiffkd.testing import make_mini_dataset

from .test_docs.pages import BLOCKS
from .test_tools.conftest import run_command

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
# All that belongs to the project and that a build could pick up.
SOURCES = 'CITATION.cff LICENSE MANIFEST.in README.md configs mmdiffkd model-index.yml'
SOURCES += ' pyproject.toml requirements setup.py tests tools'
# They set up the source tree.
NOT_INSTALLED = {
    f'mmdiffkd/.mim/tools/{name}.sh' for name in ('quickstart', 'run_tests', 'setup_env')
}


def run(*words, cwd, path=()):
    """Run Python with ``path`` in front of all installed packages; returns what it printed."""
    path = os.pathsep.join(map(str, path))
    return run_command(sys.executable, *words, cwd=cwd, PYTHONPATH=path)


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}


@pytest.fixture(scope='module')
def source_tree(tmp_path_factory):
    """A copy of the source tree, with what a user leaves in it."""
    tree = tmp_path_factory.mktemp('tree') / 'mmdiffkd'
    tree.mkdir()
    junk = shutil.ignore_patterns('__pycache__')
    for name in SOURCES.split():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=junk)
        else:
            shutil.copy(ROOT / name, tree)
    for left in ('data/coco/a.jpg', 'work_dirs/a/a.py', 'tools/__pycache__/a.pyc', 'configs/a.pth'):
        (tree / left).parent.mkdir(parents=True, exist_ok=True)
        (tree / left).touch()
    # A build of long ago.
    gone = tree / 'build/lib/mmdiffkd/.mim/configs/diffkd/gone.py'
    gone.parent.mkdir(parents=True)
    gone.touch()
    return tree


def config_of_the_page(name):
    """A config in docs/get-started.md."""
    (block,) = (block for block in BLOCKS if block.file_name == name)
    return block.text


def build_wheel(source, folder):
    options = ['-q', '--no-deps', '--no-build-isolation', '--no-index', '--wheel-dir', folder]
    run('-m', 'pip', 'wheel', *options, source, cwd=folder)
    return next(folder.glob('*.whl'))


@pytest.fixture(scope='module')
def wheel(source_tree, tmp_path_factory):
    return build_wheel(source_tree, tmp_path_factory.mktemp('wheel'))


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """The folder in which the wheel is installed."""
    folder = tmp_path_factory.mktemp('site-packages')
    options = ['-q', '--no-deps', '--no-index', '--no-compile', '--target', folder]
    run('-m', 'pip', 'install', *options, wheel, cwd=folder)
    return folder


def test_contents_of_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition('/')[0] for name in names} == {
        'mmdiffkd',
        wheel.name.partition('-py3')[0] + '.dist-info',
    }
    expected = {
        f'mmdiffkd/{file}' for file in files_below(ROOT / 'mmdiffkd') if '.mim/' not in file
    }
    for folder in ('configs', 'tools'):
        expected |= {f'mmdiffkd/.mim/{folder}/{file}' for file in files_below(ROOT / folder)}
    expected = {file for file in expected if not file.endswith('.pyc')} - NOT_INSTALLED
    files = {name for name in names if name.startswith('mmdiffkd/')}
    assert files == expected | {'mmdiffkd/.mim/model-index.yml'}
    assert any(name.endswith('/LICENSE') for name in names)


def test_sdist_builds_the_same_wheel(source_tree, wheel, tmp_path):
    code = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    run('-c', code, cwd=source_tree)
    (sdist,) = source_tree.glob('dist/*.tar.gz')
    with tarfile.open(sdist) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    assert {'CITATION.cff', 'LICENSE', 'README.md', 'model-index.yml', 'setup.py'} <= names
    folders = {name.partition('/')[0] for name in names if '/' in name}
    assert folders == {'configs', 'mmdiffkd', 'mmdiffkd.egg-info', 'requirements', 'tools'}
    rebuilt = build_wheel(sdist, tmp_path)
    assert {*zipfile.ZipFile(rebuilt).namelist()} == {*zipfile.ZipFile(wheel).namelist()}


def test_train_with_the_installed_package(installed, tmp_path):
    """From a folder that holds nothing but a config."""
    pytest.importorskip('mmpretrain')
    (tmp_path / 'mine.py').write_text(config_of_the_page('my_resnet18.py'))
    words = ['-m', 'mmdiffkd', 'train', 'mine.py', '--smoke']
    printed = run(*words, cwd=tmp_path, path=[installed])
    assert re.search(r'step 2/2 .*loss_kd_features', printed)
    assert (tmp_path / 'work_dirs/mine/smoke/epoch_1.pth').is_file()


def test_train_with_the_tool_of_the_host(installed, tmp_path):
    """mmdet's own train.py, which does not import mmdiffkd, finds our types by itself."""
    mmdet = pytest.importorskip('mmdet')
    size = (96, 64)
    make_mini_dataset('coco', tmp_path / 'data/coco', num_train=4, num_val=2, image_size=size)
    (tmp_path / 'mine.py').write_text(config_of_the_page('for_the_hosts_tools.py'))
    loaders = ('train_dataloader', 'val_dataloader')
    printed = run(
        Path(mmdet.__file__).parent / '.mim/tools/train.py',
        'mine.py',
        '--cfg-options',
        'model.student.backbone.init_cfg=None',
        'model.teacher.checkpoint=random',
        'train_cfg.max_epochs=1',
        'train_dataloader.dataset.pipeline.2.scale=(96,64)',
        'val_dataloader.dataset.pipeline.1.scale=(96,64)',
        *(f'{loader}.num_workers=0' for loader in loaders),
        *(f'{loader}.persistent_workers=False' for loader in loaders),
        'default_hooks.logger.interval=1',
        cwd=tmp_path,
        path=[installed],
    )
    assert re.search(r'Epoch\(train\) .*\b2/2\].*loss_kd_', printed)
    assert (tmp_path / 'work_dirs/mine/epoch_1.pth').is_file()
