"""Miniature data sets in the layout of real ones, and smoke runs on them."""

from mmdiffkd.testing.mini_dataset import MINI_DATA_SETS, build_once, make_mini_dataset
from mmdiffkd.testing.smoke import make_smoke_config
from mmdiffkd.testing.verdict import verdict
