"""Running teacher and student together and adding up their losses."""

from mmdiffkd.capture import FeatureCapture, FeaturePath
from mmdiffkd.diffusion import AlignHead, DiffKDHead
from mmdiffkd.losses import DISTLoss, KLDivLoss, L1Loss, MSELoss, SmoothL1Loss
from mmdiffkd.models.distiller import DiffKDDistiller
from mmdiffkd.models.pair import DistillPair
from mmdiffkd.models.teacher import FrozenTeacher
from mmdiffkd.registry import MODELS

# Heads and losses need torch alone, so they are registered here.
for component in (AlignHead, DiffKDHead, DISTLoss, KLDivLoss, L1Loss, MSELoss, SmoothL1Loss):
    MODELS.register_module(module=component)
