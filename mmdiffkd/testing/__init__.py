"""Miniature data sets in the real layouts, and smoke runs on them."""

from .mini_coco import make_mini_coco
from .smoke import make_smoke_config

__all__ = ['make_mini_coco', 'make_smoke_config']
