"""Distances between refined student features and their targets."""

from mmdiffkd.losses.dist import DISTLoss, dist
from mmdiffkd.losses.dkd import DKDLoss, dkd
from mmdiffkd.losses.kl_div import KLDivLoss, sigmoid_kl, softmax_kl
from mmdiffkd.losses.maps import ATLoss, CWDLoss, PKDLoss, attention_transfer, cwd, pkd
from mmdiffkd.losses.regression import L1Loss, MSELoss, SmoothL1Loss, WeightedDistance
