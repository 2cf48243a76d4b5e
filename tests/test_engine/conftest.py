"""A real runner around the toy distiller."""

import math

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch.utils.data import Dataset

ITERATIONS_PER_EPOCH = 4


class ToyImages(Dataset):
    """Images with noise of the global generator, as the augmentation of the hosts draws it."""

    metainfo = dict(classes=('a', 'b', 'c'))

    def __init__(self, number=2 * ITERATIONS_PER_EPOCH, noise=0.01):
        generator = torch.Generator().manual_seed(0)
        self.noise = noise
        self.images = torch.randn(number, 3, 16, 24, generator=generator)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return dict(inputs=self.images[index] + self.noise * torch.rand(1))


class Trace(Hook):
    """What each iteration was like."""

    def __init__(self):
        self.weights, self.losses, self.taught = [], [], []

    def before_train_iter(self, runner, *args, **kwargs):
        self.teacher(runner).modes.clear()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        start, scalars = 'train/kd_weight_', runner.message_hub.log_scalars
        self.weights.append(
            {k[len(start) :]: v.current() for k, v in scalars.items() if k.startswith(start)}
        )
        self.losses.append({key: value.item() for key, value in outputs.items()})
        self.taught.append(bool(self.teacher(runner).modes))

    @staticmethod
    def teacher(runner):
        model = getattr(runner.model, 'module', runner.model)
        return model.teacher.model


class Spoil(Hook):
    """Makes the output of a module what ``change`` makes of it, in some iterations (from 0)."""

    def __init__(self, module, change, iterations):
        self.iterations, self.now = iterations, None
        forward = module.forward

        def spoiled_forward(*args, **kwargs):
            output = forward(*args, **kwargs)
            return change(output) if self.now in self.iterations else output

        module.forward = spoiled_forward

    def before_train_iter(self, runner, *args, **kwargs):
        self.now = runner.iter


def infinite(output):
    """The upper one of two levels with an inf in it."""
    output = [level.contiguous().clone() for level in output]
    output[1].view(-1)[:5] = math.inf
    return tuple(output)


@pytest.fixture
def make_runner(toy_config, tmp_path):
    """Build a runner of the toy distiller, two epochs of four iterations by default."""

    def make(
        *hooks, train_cfg=None, name='run', optim_wrapper=None, model=None, dataloader=(), **changes
    ):
        torch.manual_seed(0)
        model = MODELS.build(toy_config) if model is None else model
        model.init_weights()
        optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.1)
        train_cfg = train_cfg or dict(by_epoch=True, max_epochs=2)
        sampler = 'DefaultSampler' if train_cfg.get('by_epoch') else 'InfiniteSampler'
        loader = dict(dataset=ToyImages(), batch_size=2, num_workers=0)
        loader.update(sampler=dict(type=sampler, shuffle=True))
        return Runner(
            model=model,
            work_dir=str(tmp_path / name),
            experiment_name=f'{tmp_path.name}_{name}_{len(list(tmp_path.glob("*")))}',
            train_dataloader={**loader, **dict(dataloader)},
            train_cfg=train_cfg,
            optim_wrapper=optim_wrapper or dict(type='OptimWrapper', optimizer=optimizer),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
            custom_hooks=list(hooks),
            randomness=dict(seed=0),
            **changes,
        )

    return make
