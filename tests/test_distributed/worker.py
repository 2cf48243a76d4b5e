"""What each of two processes does; it leaves files for the tests to read."""

import contextlib
import json
import os
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DATASETS, HOOKS, MODELS
from torch import nn
from torch.utils.data import Dataset

from mmdiffkd.apis import process_group, train
from mmdiffkd.diffusion import DiffKDHead
from mmdiffkd.engine.hooks.pull import PullMeter
from tests.conftest import make_toy_config, make_toy_teacher
from tests.test_heads.test_dense import LD, PAIRS, batch, distiller_of
from tests.test_models.test_label_free import label_free
from tests.toy_run import toy_run

NUM_PROCESSES = 2
IMAGES_PER_PROCESS = 2
STEPS = 8
EPOCHS = 2


@DATASETS.register_module()
class NumberedImages(Dataset):
    """The first pixel of each image is its number."""

    def __len__(self):
        return NUM_PROCESSES * IMAGES_PER_PROCESS * STEPS // EPOCHS

    def __getitem__(self, index):
        return dict(inputs=numbered_image(index))


def numbered_image(number):
    image = torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(number))
    image[0, 0, 0] = number
    return image


@HOOKS.register_module()
class Witness(Hook):
    """Writes down what a process saw and had."""

    def __init__(self, path):
        self.path, self.seen, self.draws = path, [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen += [int(image[0, 0, 0]) for image in data_batch['inputs']]
        # What comes next from the generators that noise, timesteps and dropout came from.
        self.draws.append((random.random(), np.random.rand(), torch.rand(()).item()))

    def after_train(self, runner):
        model = runner.model.module
        state = dict(
            seen=self.seen,
            draws=self.draws,
            weights={name: pair.weight for name, pair in model.pairs.items()},
            parameters=dict(model.named_parameters()),
            buffers=dict(model.named_buffers()),
            norms={type(m).__name__ for m in model.modules() if 'BatchNorm' in type(m).__name__},
        )
        torch.save(state, f'{self.path}_{runner.rank}.pth')


@HOOKS.register_module()
class Spoiled(Hook):
    """Spoils the fourth iteration: the loss of the second process, or the weights of both."""

    def __init__(self, loss):
        self.loss = loss

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 2:
            # As noise and timesteps are drawn, in a run without ExactResumeHook.
            torch.save(torch.rand(3), f'{runner.work_dir}/draws_{runner.rank}.pth')
        if runner.iter == 3 and self.loss and runner.rank == 1:
            data_batch['inputs'][0].fill_(float('inf'))

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 3 and not self.loss:
            next(runner.model.parameters()).data.fill_(float('nan'))


def write_model(folder):
    """A distiller with pairs of all kinds: a narrow head, projected, without a head, on scores."""
    model = make_toy_config(make_toy_teacher(folder))
    model['pairs']['scores'] = dict(model['pairs']['logits'], head=dict(type='DiffKDHead'))
    (folder / 'model.json').write_text(json.dumps(model))


def training_config(folder, name, *hooks, **changes):
    model = json.loads((folder / 'model.json').read_text())
    cfg = toy_run(model, folder / name, custom_hooks=list(hooks), **changes)
    cfg.train_dataloader.dataset.type = 'NumberedImages'
    cfg.train_dataloader.sampler.shuffle = True
    cfg.launcher, cfg.train_cfg.max_epochs = 'pytorch', EPOCHS
    cfg.optim_wrapper.optimizer.update(momentum=0.9, weight_decay=0.1)
    return cfg


def work(rank, folder, ports):
    """The whole life of a process, with a free port for each process group."""
    folder = Path(folder, str(rank))
    folder.mkdir()
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(NUM_PROCESSES))
    saved = str(folder.parent / 'trained' / 'epoch_1.pth')
    parts = [
        lambda: compare_gradients(rank, folder),
        lambda: train(both_config(folder, 'trained')),
        lambda: train(both_config(folder, 'resumed', resume=saved)),
        lambda: train_with_other_heads(rank, folder),
        lambda: train(label_free_config(folder)),
        lambda: end_with_an_error(folder, 'bad_loss'),
        lambda: end_with_an_error(folder, 'bad_weights'),
    ]
    for port, part in zip(ports, parts):
        os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        part()


def compare_gradients(rank, folder):
    """Gradients and pulls of both processes, of one with all images, and of one with its own."""
    numbers = list(range(NUM_PROCESSES * IMAGES_PER_PROCESS))
    own = numbers[rank * IMAGES_PER_PROCESS :][:IMAGES_PER_PROCESS]
    with process_group(Config(dict(launcher='pytorch'))):
        torch.manual_seed(0)
        model = MODELS.build(training_config(folder.parent, 'gradients').model).double().train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        together = MMDistributedDataParallel(model, find_unused_parameters=False)
        result = {}
        for at_rest in (None, 'fpn'):
            for name, pair in model.pairs.items():
                pair.active = name != at_rest
            result[at_rest] = dict(
                joined=gradients(model, model, numbers),
                alone=gradients(model, model, own),
                together=gradients(together, model, own),
            )
    torch.save(result, folder / 'gradients.pth')


def gradients(forward, model, numbers):
    """Of the sum of all losses on some images, whose noise and timesteps are always the same.

    Returns the gradients of the parameters and the pulls of the pairs.
    """
    images = torch.stack([numbered_image(number) for number in numbers]).double()
    heads = [module for module in model.modules() if isinstance(module, DiffKDHead)]
    meter = PullMeter()
    with contextlib.ExitStack() as hooks:
        for handle in meter.watch(SimpleNamespace(optim_wrapper=None), model):
            hooks.enter_context(handle)
        for index, head in enumerate(heads):
            hook = fixed_noise([100 * index + number for number in numbers])
            hooks.enter_context(head.register_forward_pre_hook(hook, with_kwargs=True))
        total, _ = model.parse_losses(forward(images, mode='loss'))
        model.zero_grad()
        total.backward()
    found = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    return found, {name: tuple(pull) for name, pull in meter.pulls(model).items()}


def train_with_other_heads(rank, folder):
    """Two steps of a detector whose second process has images without boxes."""
    with process_group(Config(dict(launcher='pytorch'))):
        torch.manual_seed(0)
        model = distiller_of('gfl', dict(PAIRS, ld=LD))
        together = MMDistributedDataParallel(model, find_unused_parameters=False)
        for _ in range(2):
            model.zero_grad()
            total, _ = model.parse_losses(together(*batch(2 - 2 * rank), mode='loss'))
            total.backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    torch.save(found, folder / 'other_heads.pth')


def fixed_noise(seeds):
    def fill_in(head, args, kwargs):
        height, width = args[0].shape[-2:]
        shape = (head.align.out_channels, height, width)
        draws = []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            noises = [torch.randn(shape, generator=generator, dtype=torch.double) for _ in 'ab']
            draws.append((*noises, torch.randint(1000, (), generator=generator)))
        names = ('student_noise', 'diffusion_noise', 'timesteps')
        return args, {name: torch.stack(column) for name, column in zip(names, zip(*draws))}

    return fill_in


def both_config(folder, name, **changes):
    """Synchronised batch norm is asked for in every way; two pairs rest in the first epoch."""
    hooks = [
        dict(type='Witness', path=str(folder.parent / f'state_{name}')),
        dict(type='mmdiffkd.ExactResumeHook'),
        dict(type='mmdiffkd.TelemetryHook', interval=3),
        dict(type='mmdiffkd.PullBalanceHook', pull=0.5, iterations=3),
        dict(type='mmdiffkd.DistillationScheduleHook',
             pairs=dict(fpn=dict(begin=1), scores=dict(begin=1))),
    ]  # fmt: skip
    cfg = training_config(folder.parent, name, *hooks, sync_bn='torch', **changes)
    cfg.model.student.type = 'SynchronizedToyModel'
    cfg.model.pairs.fpn.head.sync_bn = True
    torch.manual_seed(0)
    cfg.model.teacher = make_toy_teacher(folder)
    return cfg


def label_free_config(folder):
    """A student without losses of its own."""
    hook = dict(type='Witness', path=str(folder.parent / 'state_label_free'))
    cfg = training_config(folder.parent, 'label_free', hook)
    cfg.model = label_free(cfg.model.teacher)
    return cfg


def end_with_an_error(folder, name):
    """A loss of one process, which ends both, or weights, for which the main process ends.

    Until then the scores are learned from the student's own average.
    """
    saving = dict(checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False))
    hook = dict(type='Spoiled', loss=name == 'bad_loss')
    cfg = training_config(folder.parent, name, hook, default_hooks=saving)
    own = dict(average=dict(momentum=0.1))
    cfg.model.teachers = dict(frozen=cfg.model.pop('teacher'), own=own)
    for pair in cfg.model.pairs.values():
        pair.teacher = f'{"own" if pair.student == "head.cls" else "frozen"}:{pair.teacher}'
    try:
        train(cfg)
    except RuntimeError as error:
        (folder / f'{name}.txt').write_text(f'{type(error).__name__}: {error}')
    if name == 'bad_loss':
        torch.distributed.destroy_process_group()
