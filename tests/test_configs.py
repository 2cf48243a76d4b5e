"""What the shipped configs promise and a smoke run does not see."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

ROOT = Path(__file__).parents[1] / 'configs'
CONFIGS = sorted((ROOT / 'diffkd').glob('*.py'))
CIFAR_CONFIGS = [path for path in CONFIGS if path.stem.endswith('_cifar100')]


def config(name):
    pytest.importorskip('mmpretrain')
    return Config.fromfile(ROOT / 'diffkd' / f'{name}.py')


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.layer.weight.sum())


class Recorder(Hook):
    def __init__(self):
        self.rates = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 0:
            self.rates.append([])
        self.rates[-1] += runner.optim_wrapper.get_lr()['lr']


def learning_rates(cfg, epoch_length, work_dir):
    """The rate of every iteration, as ``[epoch][iteration]``."""
    recorder = Recorder()
    Runner(
        model=Toy(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=1,
            num_workers=0,
            dataset=[dict(inputs=torch.zeros(1))] * epoch_length,
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=cfg.train_cfg,
        param_scheduler=cfg.param_scheduler,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=cfg.optim_wrapper.optimizer.lr)),
        custom_hooks=[recorder],
        default_hooks=dict(logger=None, checkpoint=None, timer=None),
        default_scope='mmpretrain',
        log_level='ERROR',
        experiment_name=f'{work_dir.name}_{epoch_length}',
    ).train()
    assert len(recorder.rates) == cfg.train_cfg.max_epochs
    assert all(len(epoch) == epoch_length for epoch in recorder.rates)
    return recorder.rates


@pytest.mark.parametrize('name', ['resnet34_resnet18_imagenet', 'resnet50_mobilenetv1_imagenet'])
def test_schedule_b1(name, tmp_path):
    rates = learning_rates(config(name), 1, tmp_path)
    assert len(rates) == 100
    for epoch, expected in ((0, 0.1), (29, 0.1), (30, 0.01), (60, 1e-3), (89, 1e-3), (90, 1e-4)):
        assert rates[epoch][0] == pytest.approx(expected)


@pytest.mark.parametrize('epoch_length', [2, 5])
def test_schedule_b2(epoch_length, tmp_path):
    """The same whatever the number of iterations of an epoch, and so of GPUs."""
    cfg = config('resnet50-rsb_mobilenetv2_imagenet')
    rates = learning_rates(cfg, epoch_length, tmp_path)
    assert len(rates) == 450
    warmup = sum(rates[:3], [])
    np.testing.assert_allclose(warmup, np.linspace(1e-6, 0.048, 3 * epoch_length))
    for epoch in range(3, 450):
        # Of whole numbers: 12 / 2.4 is not 5 to a computer.
        decays = epoch * 10 // 24
        assert rates[epoch] == pytest.approx([0.048 * 0.97**decays] * epoch_length)


def test_average_of_weights_b2():
    """A decay of 0.9999 is a momentum of 0.0001 to mmengine."""
    hooks = config('resnet50-rsb_mobilenetv2_imagenet').custom_hooks
    assert [hook.momentum for hook in hooks if hook.type == 'EMAHook'] == [1e-4]


def test_schedule_b3(tmp_path):
    rates = learning_rates(config('swin-l_swin-t_imagenet'), 2, tmp_path)
    assert len(rates) == 300
    np.testing.assert_allclose(sum(rates[:20], []), np.linspace(5e-7, 1e-3, 40))
    for epoch in (20, 21, 90, 160, 299):
        cosine = math.cos(math.pi * (epoch - 20) / 280)
        assert rates[epoch] == pytest.approx([5e-6 + (1e-3 - 5e-6) * (1 + cosine) / 2] * 2)


@pytest.mark.parametrize('path', CIFAR_CONFIGS, ids=lambda path: path.stem)
def test_schedule_cifar(path, tmp_path):
    rates = learning_rates(config(path.stem), 1, tmp_path)
    assert len(rates) == 240
    light = any(name in path.stem for name in ('mobilenetv2', 'shufflenet'))
    start = 0.01 if light else 0.05
    for epoch, factor in ((0, 1), (149, 1), (150, 0.1), (179, 0.1), (180, 0.01), (210, 0.001)):
        assert rates[epoch][0] == pytest.approx(start * factor)


@pytest.mark.parametrize('path', CIFAR_CONFIGS, ids=lambda path: path.stem)
def test_cifar_teacher_is_what_its_config_leaves(path, tmp_path, monkeypatch):
    """Wherever the commands run, and also when a dumped config is read again."""
    monkeypatch.chdir(tmp_path)
    config(path.stem).dump('dumped.py')
    teacher = Config.fromfile('dumped.py').model.teacher
    trained = Config.fromfile(teacher.config)
    assert trained.model.head.num_classes == 100
    epochs = trained.train_cfg.max_epochs
    assert epochs % trained.default_hooks.checkpoint.interval == 0
    name = Path(teacher.config).stem
    assert teacher.checkpoint == f'work_dirs/{name}/epoch_{epochs}.pth'
    assert path.stem.startswith(name.replace('_cifar100', '_'))


@pytest.mark.slow
def test_mixed_batch_reaches_both_models():
    """Mixup and cutmix happen once, before student and teacher."""
    cfg = config('swin-l_resnet50_imagenet')
    from mmpretrain.structures import DataSample

    init_default_scope('mmpretrain')
    # A small teacher with the preprocessing of the real one.
    cfg.model.teacher.update(
        config='mmpretrain::resnet/resnet18_8xb32_in1k.py', checkpoint='random'
    )
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor)).train()
    seen = []
    for part in (model.student.backbone, model.teacher.model.backbone):
        part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.manual_seed(0)
    np.random.seed(0)
    images = torch.randint(256, (4, 3, 224, 224), dtype=torch.uint8)
    data = dict(
        inputs=list(images),
        data_samples=[DataSample().set_gt_label(label) for label in range(4)],
    )
    plain = model.data_preprocessor(dict(inputs=list(images)), training=True)['inputs']
    batch = model.data_preprocessor(data, training=True)
    labels = torch.stack([sample.gt_score for sample in batch['data_samples']])
    losses = model(**batch, mode='loss')

    teacher_images, student_images = seen
    assert torch.equal(teacher_images, student_images)
    assert not torch.equal(student_images, plain)
    assert ((labels > 0).sum(dim=1) == 2).any()
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(4))
    assert 'loss_kd_logits' in losses and losses['loss'].isfinite()
