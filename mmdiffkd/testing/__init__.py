"""Miniature data sets in the real layouts, and smoke runs on them."""

from mmdiffkd.testing.mini_ade20k import make_mini_ade20k
from mmdiffkd.testing.mini_cifar100 import make_mini_cifar100
from mmdiffkd.testing.mini_cityscapes import make_mini_cityscapes
from mmdiffkd.testing.mini_coco import make_mini_coco
from mmdiffkd.testing.mini_imagenet import make_mini_imagenet
from mmdiffkd.testing.smoke import make_smoke_config

__all__ = [
    'make_mini_ade20k',
    'make_mini_cifar100',
    'make_mini_cityscapes',
    'make_mini_coco',
    'make_mini_imagenet',
    'make_smoke_config',
]
