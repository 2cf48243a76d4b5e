"""What each of two processes does; it leaves files for the tests to read."""

import contextlib
import io
import json
import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DATASETS, HOOKS, MODELS
from torch import nn
from torch.utils.data import Dataset

from mmdiffkd.apis import one_line_errors, process_group, train
from mmdiffkd.diffusion import DiffKDHead
from mmdiffkd.models import FeaturePath
from tests.conftest import make_toy_config, make_toy_teacher

NUM_PROCESSES = 2
IMAGES_PER_PROCESS = 2
STEPS = 20
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
        self.path, self.seen, self.without_gradient = path, [], None
        self.draws = []

    def before_train(self, runner):
        runner.optim_wrapper.optimizer.register_step_pre_hook(lambda *_: self.look(runner))

    def look(self, runner):
        self.without_gradient = [
            name for name, parameter in runner.model.named_parameters() if parameter.grad is None
        ]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen += [int(image[0, 0, 0]) for image in data_batch['inputs']]
        # What comes next from the generators that noise, timesteps and dropout came from.
        self.draws.append((random.random(), np.random.rand(), torch.rand(()).item()))

    def after_train(self, runner):
        model = runner.model.module
        state = dict(
            seen=self.seen,
            draws=self.draws,
            without_gradient=self.without_gradient,
            parameters=dict(model.named_parameters()),
            buffers=dict(model.named_buffers()),
            norms={type(m).__name__ for m in model.modules() if 'BatchNorm' in type(m).__name__},
        )
        torch.save(state, f'{self.path}_{runner.rank}.pth')


@HOOKS.register_module()
class FailInSecondProcess(Hook):
    """A mistake that the package refuses, in the middle of training."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 2:
            # As noise and timesteps are drawn, in a run without ExactResumeHook.
            torch.save(torch.rand(3), f'{runner.work_dir}/draws_{runner.rank}.pth')
        if runner.rank == 1 and runner.iter == 3:
            FeaturePath.parse('neck[')


def write_model(folder):
    """A distiller with pairs of all kinds: a narrow head, projected, without a head, on scores."""
    model = make_toy_config(make_toy_teacher(folder))
    model['pairs']['scores'] = dict(model['pairs']['logits'], head=dict(type='DiffKDHead'))
    (folder / 'model.json').write_text(json.dumps(model))


def read_model(folder):
    return json.loads((folder / 'model.json').read_text())


def training_config(folder, name, *hooks, **changes):
    settings = dict(
        model=read_model(folder),
        work_dir=str(folder / name),
        launcher='pytorch',
        train_dataloader=dict(
            batch_size=IMAGES_PER_PROCESS,
            num_workers=0,
            dataset=dict(type='NumberedImages'),
            sampler=dict(type='DefaultSampler', shuffle=True),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=EPOCHS),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.1)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=list(hooks),
        randomness=dict(seed=0),
    )
    return Config({**settings, **changes})


def work(rank, folder, ports):
    """The whole life of a process.

    Args:
        rank: Of this process.
        folder: Of both, with the model; the files of each go to a folder of its own in it.
        ports: A free one for each process group.
    """
    folder = Path(folder, str(rank))
    folder.mkdir()
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(NUM_PROCESSES))
    for port, part in zip(ports, (compare_gradients, train_both, resume_both, wait_in_vain, fail)):
        os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        part(rank, folder)


def compare_gradients(rank, folder):
    """Those of both processes, of one with all images, and of one with its own images."""
    numbers = list(range(NUM_PROCESSES * IMAGES_PER_PROCESS))
    own = numbers[rank * IMAGES_PER_PROCESS :][:IMAGES_PER_PROCESS]
    with process_group(Config(dict(launcher='pytorch'))):
        model = double_distiller(folder.parent)
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


def double_distiller(folder):
    torch.manual_seed(0)
    model = MODELS.build(read_model(folder)).double().train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def gradients(forward, model, numbers):
    """Of the sum of all losses on some images, whose noise and timesteps are always the same."""
    images = torch.stack([numbered_image(number) for number in numbers]).double()
    heads = [module for module in model.modules() if isinstance(module, DiffKDHead)]
    with contextlib.ExitStack() as hooks:
        for index, head in enumerate(heads):
            hook = fixed_noise([100 * index + number for number in numbers])
            hooks.enter_context(head.register_forward_pre_hook(hook, with_kwargs=True))
        total, _ = model.parse_losses(forward(images, mode='loss'))
        model.zero_grad()
        total.backward()
    return {
        name: None if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }


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
    cfg = training_config(
        folder.parent,
        name,
        dict(type='Witness', path=str(folder.parent / f'state_{name}')),
        dict(type='mmdiffkd.ExactResumeHook'),
        dict(
            type='mmdiffkd.DistillationScheduleHook',
            pairs=dict(fpn=dict(begin=1), scores=dict(begin=1)),
        ),
        sync_bn='torch',
        **changes,
    )
    cfg.model.student.type = 'SynchronizedToyModel'
    cfg.model.pairs.fpn.sync_bn = True
    torch.manual_seed(0)
    cfg.model.teacher = make_toy_teacher(folder)
    return cfg


def train_both(rank, folder):
    train(both_config(folder, 'trained'))


def resume_both(rank, folder):
    """Again from the middle of the run above, as after a kill."""
    cfg = both_config(folder, 'resumed', resume='auto')
    if rank == 0:
        Path(cfg.work_dir).mkdir()
        shutil.copy(folder.parent / 'trained' / 'epoch_1.pth', cfg.work_dir)
    (folder / 'copied').touch()
    wait_for(folder.parent / '0' / 'copied')
    train(cfg)


def wait_in_vain(rank, folder):
    """The second process does not answer until the first has given up."""
    gave_up = folder.parent / 'gave_up.txt'
    cfg = Config(dict(launcher='pytorch', env_cfg=dict(dist_cfg=dict(timeout=1))))
    # The time runs from here, and checkpoints are written by one process alone.
    (folder / 'came').touch()
    wait_for(*(folder.parent / str(other) / 'came' for other in range(NUM_PROCESSES)))
    if rank == 1:
        with process_group(cfg):
            wait_for(gave_up)
        return
    try:
        with process_group(cfg):
            torch.distributed.all_reduce(torch.zeros(1))
    except RuntimeError as error:
        torch.distributed.destroy_process_group()
        gave_up.write_text(str(error))


def wait_for(*paths):
    while not all(path.exists() for path in paths):
        time.sleep(0.05)


def fail(rank, folder):
    """A mistake in the second process ends both; that of the first is an error of gloo."""
    cfg = training_config(folder.parent, 'failed', dict(type='FailInSecondProcess'))
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), one_line_errors():
            train(cfg)
    except SystemExit as error:
        (folder / 'status.txt').write_text(str(error.code))
    except RuntimeError as error:
        (folder / 'status.txt').write_text(type(error).__name__)
    (folder / 'errors.txt').write_text(errors.getvalue())
