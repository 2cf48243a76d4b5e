"""`type='mmdiffkd.X'` works in the configs of every library, without `custom_imports`."""

import subprocess
import sys

import pytest

CODE = """
from mmengine.registry import init_default_scope
from mmdet.registry import HOOKS, MODELS
init_default_scope('mmdet')
assert MODELS.get('mmdiffkd.DiffKDDistiller') is not None
assert MODELS.get('mmdiffkd.DiffKDHead') is not None
assert HOOKS.get('mmdiffkd.InterruptHook') is not None
"""


@pytest.mark.slow
def test_named_from_any_config():
    pytest.importorskip('mmdet')
    subprocess.run([sys.executable, '-c', CODE], check=True)


@pytest.mark.slow
def test_importing_the_package_imports_no_host():
    """Nor does any module of it, but for the data sets, which only configs name."""
    code = (
        'import importlib, pkgutil, sys\n'
        'import mmdiffkd\n'
        "names = [m.name for m in pkgutil.walk_packages(mmdiffkd.__path__, 'mmdiffkd.')]\n"
        "names = [name for name in names if not name.startswith('mmdiffkd.datasets.')]\n"
        'assert len(names) > 40\n'
        'for name in names: importlib.import_module(name)\n'
        "imported = {'mmcv', 'mmdet', 'mmseg', 'mmpretrain'} & set(sys.modules)\n"
        'assert not imported, imported'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
