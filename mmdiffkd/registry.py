"""Registries of mmdiffkd, children of mmengine's.

Naming ``type='mmdiffkd.X'`` in any OpenMMLab config imports this module by itself; the locations
are imported when the first ``X`` is looked up.
"""

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import Registry

from mmdiffkd import compat

compat.apply_to_loops()
compat.apply_to_mlflow()

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmdiffkd',
    locations=['mmdiffkd.models', 'mmdiffkd.models.backbones', 'mmdiffkd.models.necks'],
)
HOOKS = Registry(
    'hook', parent=MMENGINE_HOOKS, scope='mmdiffkd', locations=['mmdiffkd.engine.hooks']
)
RUNNERS = Registry(
    'runner', parent=MMENGINE_RUNNERS, scope='mmdiffkd', locations=['mmdiffkd.engine.runner']
)
