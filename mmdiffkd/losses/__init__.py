"""Distances between refined student features and their targets."""

from .base import WeightedDistance
from .dist import DISTLoss, dist
from .kl_div import KLDivLoss, sigmoid_kl, softmax_kl
from .regression import L1Loss, MSELoss, SmoothL1Loss

__all__ = [
    'DISTLoss',
    'KLDivLoss',
    'L1Loss',
    'MSELoss',
    'SmoothL1Loss',
    'WeightedDistance',
    'dist',
    'sigmoid_kl',
    'softmax_kl',
]
