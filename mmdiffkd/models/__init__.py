"""Running teacher and student together and adding up their losses."""

from mmdiffkd.capture import FeatureCapture, FeaturePath
from mmdiffkd.diffusion import AlignHead, DiffKDHead
from mmdiffkd.heads import CrossKDHead, FGDHead, LDHead, MGDHead
from mmdiffkd.losses import (
    ATLoss,
    CWDLoss,
    DISTLoss,
    DKDLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    PKDLoss,
    SmoothL1Loss,
)
from mmdiffkd.models.context import PairContext
from mmdiffkd.models.distiller import DiffKDDistiller
from mmdiffkd.models.feature_extractor import FeatureExtractor
from mmdiffkd.models.label_free import BackboneModel
from mmdiffkd.models.pair import DistillPair
from mmdiffkd.models.teachers import AveragedTeacher, FrozenTeacher
from mmdiffkd.registry import MODELS

# Heads and losses need torch alone, so they are registered here.
HEADS = (AlignHead, DiffKDHead, MGDHead, FGDHead, CrossKDHead, LDHead)
LOSSES = (MSELoss, L1Loss, SmoothL1Loss, KLDivLoss, DISTLoss, DKDLoss, ATLoss, CWDLoss, PKDLoss)
for component in (*HEADS, *LOSSES):
    MODELS.register_module(module=component)
