"""Distances between refined student features and their targets."""

from mmdiffkd.losses.dist import DISTLoss
from mmdiffkd.losses.dkd import DKDLoss
from mmdiffkd.losses.kl_div import KLDivLoss
from mmdiffkd.losses.maps import ATLoss, CWDLoss, PKDLoss
from mmdiffkd.losses.regression import L1Loss, MSELoss, SmoothL1Loss, WeightedDistance
