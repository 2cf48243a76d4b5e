"""`type='mmdiffkd.X'` works in the configs of every library, without `custom_imports`."""

import subprocess
import sys

import pytest

CODE = """
from mmengine.registry import init_default_scope
from {library}.registry import HOOKS, MODELS
loss = dict(type='mmdiffkd.KLDivLoss', tau=2.0)
init_default_scope('{scope}')
assert type(MODELS.build(loss)).__module__ == 'mmdiffkd.losses.kl_div'
assert MODELS.get('mmdiffkd.DiffKDDistiller') is not None
assert MODELS.get('mmdiffkd.DiffKDHead') is not None
assert HOOKS.get('mmdiffkd.InterruptHook') is not None
"""


@pytest.mark.parametrize(('library', 'scope'), [('mmengine', 'mmengine'), ('mmdet', 'mmdet')])
def test_named_from_any_config(library, scope):
    pytest.importorskip(library)
    subprocess.run([sys.executable, '-c', CODE.format(library=library, scope=scope)], check=True)


@pytest.mark.contract(11, 'no host imported')
def test_importing_the_package_imports_no_host():
    """Nor does any module of it, but for the data sets, which only configs name."""
    code = (
        'import importlib, pkgutil, sys\n'
        'import mmdiffkd\n'
        "names = [m.name for m in pkgutil.walk_packages(mmdiffkd.__path__, 'mmdiffkd.')]\n"
        "names = [name for name in names if not name.startswith('mmdiffkd.datasets.')]\n"
        'assert len(names) > 60\n'
        'for name in names: importlib.import_module(name)\n'
        "imported = {'mmcv', 'mmdet', 'mmseg', 'mmpretrain'} & set(sys.modules)\n"
        'assert not imported, imported'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
