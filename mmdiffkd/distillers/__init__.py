"""Running teacher and student together and adding up their losses."""

from .build import ConfigError
from .capture import FeatureCapture, FeaturePath
from .distiller import DiffKDDistiller
from .pair import DistillPair
from .sync_bn import CPUDataParallel
from .teacher import FrozenTeacher

__all__ = [
    'CPUDataParallel',
    'ConfigError',
    'DiffKDDistiller',
    'DistillPair',
    'FeatureCapture',
    'FeaturePath',
    'FrozenTeacher',
]
