"""`type='mmdiffkd.X'` works in the configs of every library, with `custom_imports` and without."""

import subprocess
import sys

import pytest

CODE = """
from mmengine.config import Config
from mmengine.registry import init_default_scope
from {library}.registry import HOOKS, MODELS
cfg = Config(dict(loss=dict(type='mmdiffkd.KLDivLoss', tau=2.0), {custom_imports}))
if cfg.get('custom_imports'):
    from mmengine.utils import import_modules_from_strings
    import_modules_from_strings(**cfg.custom_imports)
init_default_scope('{scope}')
assert type(MODELS.build(cfg.loss)).__module__ == 'mmdiffkd.losses.kl_div'
assert MODELS.get('mmdiffkd.DiffKDDistiller') is not None
assert MODELS.get('mmdiffkd.DiffKDHead') is not None
assert HOOKS.get('mmdiffkd.InterruptHook') is not None
"""


@pytest.mark.parametrize('custom_imports', ['', "custom_imports=dict(imports=['mmdiffkd'])"])
@pytest.mark.parametrize(
    ('library', 'scope'), [('mmengine', 'mmengine'), ('mmdet', 'mmdet'), ('mmengine', 'mmdet')]
)
def test_named_from_any_config(library, scope, custom_imports):
    code = CODE.format(library=library, scope=scope, custom_imports=custom_imports)
    subprocess.run([sys.executable, '-c', code], check=True)


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


def test_bases_of_mmseg_are_found():
    """OneDL's mmengine looks for a distribution that has another name."""
    pytest.importorskip('mmseg')
    code = (
        'import mmdiffkd\n'
        'from mmengine.hub import get_config\n'
        "get_config('mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py')"
    )
    subprocess.run([sys.executable, '-c', code], check=True)
