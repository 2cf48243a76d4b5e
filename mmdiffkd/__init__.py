"""mmdiffkd: Knowledge Diffusion for Distillation (DiffKD) for the OpenMMLab libraries."""

from mmdiffkd import compat

__version__ = '0.1.0'

compat.require_torch()
compat.apply()
