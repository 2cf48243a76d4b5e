"""A student without losses of its own learns from the teacher alone."""

import pytest
import torch
from mmengine.registry import MODELS

from mmdiffkd.apis import train
from mmdiffkd.testing import verdict
from tests.toy_run import toy_run

BACKBONE = dict(type='mmdiffkd.CIFARResNet', depth=8, channels=(4, 4, 8, 8))


def label_free(teacher, backbone=BACKBONE):
    preprocessor = dict(type='ImgDataPreprocessor')
    return dict(
        type='mmdiffkd.DiffKDDistiller',
        student=dict(
            type='mmdiffkd.BackboneModel', backbone=backbone, data_preprocessor=preprocessor
        ),
        teacher=teacher,
        pairs=dict(
            last=dict(
                student='backbone',
                teacher='backbone',
                head=dict(type='AlignHead'),
                loss=dict(type='MSELoss'),
            )
        ),
    )


def test_backbone_learns_and_is_resumed_and_used_elsewhere(toy_teacher, images, tmp_path):
    losses, folder = [], tmp_path / 'run'
    for epochs in (0, 1, 15):
        cfg = toy_run(label_free(toy_teacher), folder, resume='auto')
        cfg.train_cfg.max_epochs, cfg.optim_wrapper.optimizer.lr = epochs, 0.1
        runner = train(cfg)
        assert runner.iter == 2 * epochs
        losses.append(runner.model.eval()(images, mode='loss')['loss_kd_last'].item())
    assert losses[0] > losses[1] > 1.5 * losses[2]
    assert_starts_with(runner.model, folder / 'epoch_15.pth', BACKBONE)
    report = verdict(runner, (), '')
    assert 'passed. 30 training steps and a checkpoint' in report
    assert 'A step took' in report and 'student alone' not in report


def test_another_library_starts_from_it(toy_teacher, tmp_path):
    pytest.importorskip('mmpretrain')
    pytest.importorskip('mmdet')
    distiller = MODELS.build(label_free(toy_teacher, dict(type='mmpretrain.ResNet', depth=18)))
    torch.save(dict(state_dict=distiller.state_dict()), tmp_path / 'trained.pth')
    assert_starts_with(distiller, tmp_path / 'trained.pth', dict(type='mmdet.ResNet', depth=18))


def assert_starts_with(distiller, path, backbone):
    """A backbone starts with the weights of the student's."""
    init = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    model = MODELS.build(dict(backbone, init_cfg=init))
    model.init_weights()
    trained = distiller.student.backbone.state_dict()
    assert trained.keys() == model.state_dict().keys()
    assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())


def test_neck(images):
    neck = dict(type='mmdiffkd.DropoutAveragePooling', drop_rate=0.0)
    model = MODELS.build(dict(type='mmdiffkd.BackboneModel', backbone=BACKBONE, neck=neck))
    assert [x.shape for x in model(images)] == [(2, 8)]
    assert model(images, mode='loss') == {}
