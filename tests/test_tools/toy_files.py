"""A distillation of toy models that trains in a second, as files a user would have."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile  # noqa: F401 (named by the config)
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.registry import DATASETS, METRICS, MODELS, TRANSFORMS
from mmengine.structures import BaseDataElement

TEACHER = dict(type='ToyModel', width=12)

CONFIG = """
model = dict(
    type='mmdiffkd.DiffKDDistiller',
    student=dict(type='ToyModel', width=8),
    teacher=dict(config=dict(type='ToyModel', width=12), checkpoint='teacher.pth'),
    pairs=dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            head=dict(type='DiffKDHead', ae_channels=4),
            loss=dict(type='MSELoss', loss_weight=1.0))))
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ToyDataset',
        data_root='data',
        ann_file='train.json',
        data_prefix=dict(img_path='images'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackToyInputs')]))
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=train_dataloader['dataset'])
test_dataloader = val_dataloader
val_evaluator = dict(type='CountingMetric')
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
param_scheduler = [dict(type='ConstantLR')]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
env_cfg = dict(cudnn_benchmark=False)
"""


@DATASETS.register_module()
class ToyDataset(BaseDataset):
    """Reads its list of images as mmengine does."""


@TRANSFORMS.register_module()
class PackToyInputs:
    """Makes of a loaded image what the toy model takes."""

    def __call__(self, results):
        image = torch.from_numpy(results['img']).permute(2, 0, 1)
        return dict(inputs=image, data_samples=BaseDataElement())


@METRICS.register_module()
class CountingMetric(BaseMetric):
    """Counts images."""

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return dict(images=len(results))


def write_toy_run(folder: Path) -> None:
    """Write config, teacher and data into a folder, all named relative to it."""
    (folder / 'config.py').write_text(CONFIG)
    (folder / 'student.py').write_text(CONFIG + "\nmodel = dict(type='ToyModel', width=8)\n")
    torch.save(dict(state_dict=MODELS.build(TEACHER).state_dict()), folder / 'teacher.pth')
    images = folder / 'data' / 'images'
    images.mkdir(parents=True)
    names = [f'{index}.png' for index in range(4)]
    for name in names:
        cv2.imwrite(str(images / name), np.full((16, 24, 3), 99, np.uint8))
    annotations = dict(metainfo={}, data_list=[dict(img_path=name) for name in names])
    (folder / 'data' / 'train.json').write_text(json.dumps(annotations))
