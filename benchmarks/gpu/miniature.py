"""Configs of short trainings on miniature data, for the parts of the GPU check that train."""

from pathlib import Path
from typing import Any

from rows import ROOT

from mmengine.config import Config  # isort: skip
from mmengine.registry import init_default_scope

from mmdiffkd.models.configs import load_config, type_name
from mmdiffkd.testing import make_smoke_config

ITERATIONS = 20
DETECTOR = 'retinanet_r101_r50_coco'
SEGMENTOR = 'deeplabv3_r101_pspnet_r18_cityscapes'
CLASSIFIER = 'resnet34_resnet18_imagenet'
SMALL_CLASSIFIER = 'resnet32x4_resnet8x4_cifar100'
LIBRARY_OF = {DETECTOR: 'mmdet', SEGMENTOR: 'mmseg', CLASSIFIER: 'mmpretrain'}


def miniature(name: str, folder: Path, **changes: Any) -> Config:
    """A config of ``configs/diffkd`` that trains 20 iterations with random weights.

    Args:
        name: File name of the config without its ending.
        folder: Work directory; the miniature data goes there as well.
        changes: Keys of the config to set in place of its own.
    """
    cfg = load_config(str(ROOT / 'configs' / 'diffkd' / f'{name}.py'), 'config')
    cfg.work_dir = str(folder)
    cfg = make_smoke_config(cfg)
    dataset = cfg.train_dataloader.dataset
    repeated = dict(type='RepeatDataset', times=ITERATIONS // 2, dataset=dataset)
    cfg.train_dataloader.dataset = repeated
    if 'max_iters' in cfg.train_cfg:
        cfg.train_cfg.update(max_iters=ITERATIONS, val_interval=ITERATIONS)
    # The warm-up would take longer than the training.
    cfg.param_scheduler = []
    cfg.optim_wrapper.optimizer = dict(type='AdamW', lr=1e-3)
    # A random teacher's features may be of any size.
    for pair in cfg.model.pairs.values():
        pair.weight = 1e-3
    # Pictures are drawn rarely in a normal run, and every third iteration in a smoke run.
    hooks = cfg.get('custom_hooks') or []
    cfg.custom_hooks = [hook for hook in hooks if type_name(hook) != 'FeaturePictureHook']
    cfg.randomness = dict(seed=0)
    cfg.launcher = 'none'
    cfg.log_level = 'WARNING'
    init_default_scope(cfg.default_scope)
    cfg.work_dir = str(folder)
    cfg.merge_from_dict(changes)
    return cfg
