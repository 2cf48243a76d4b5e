"""A run of the toy distiller as the tools start it: from a config."""

import itertools

import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import DATASETS, MODELS
from torch.utils.data import Dataset

from .conftest import ToyModel

_numbers = itertools.count()


@DATASETS.register_module()
class FourImages(Dataset):
    metainfo = dict(classes=('a', 'b', 'c'))

    def __len__(self):
        return 4

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=torch.randn(3, 16, 24, generator=generator))


class Stem(BaseModule):
    """A toy's backbone that may start from a file."""

    def __init__(self, layers, init_cfg):
        super().__init__(init_cfg)
        self.layers = layers

    def forward(self, x):
        return self.layers(x)


@MODELS.register_module()
class PretrainedToy(ToyModel):
    """Starts from files: the whole model, or its backbone."""

    def __init__(self, init_cfg=None, backbone_init_cfg=None, **kwargs):
        super().__init__(**kwargs)
        self.init_cfg = init_cfg
        self.backbone = Stem(self.backbone, backbone_init_cfg)


def toy_run(model, work_dir, **changes):
    """A config that trains one epoch of two iterations."""
    loader = dict(
        dataset=dict(type='FourImages'),
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    settings = dict(
        model=model,
        work_dir=str(work_dir),
        # Message hubs live as long as the process.
        experiment_name=f'toy_run_{next(_numbers)}',
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        launcher='none',
        randomness=dict(seed=0),
    )
    return Config({**settings, **changes})
