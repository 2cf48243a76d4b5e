"""From configs to model dicts, and what is said about those that do not work."""

import copy

import pytest

from mmdiffkd.distillers import ConfigError
from mmdiffkd.distillers.build import forget_weights, model_config, student_config

PREPROCESSOR = dict(type='ImgDataPreprocessor', mean=[1.0], std=[2.0])


@pytest.mark.contract(12, 'errors')
@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('model = dict(', r"student: '.*config.py' cannot be read: .* was never closed \(line 1\)"),
        ("raise OSError('no disk')", r"student: '.*config.py' cannot be read: .*no disk"),
        ('optimizer = dict()', r"student: '.*config.py' has no 'model'"),
    ],
)
def test_config_files_that_do_not_work(text, message, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        model_config(str(path), 'student')


def test_preprocessing_beside_the_model_is_taken_along(tmp_path):
    """There mmpretrain's configs have it; the model's own comes first."""
    path = tmp_path / 'config.py'
    path.write_text(f"model = dict(type='A')\ndata_preprocessor = {PREPROCESSOR}")
    model, scope = model_config(path, 'student')
    assert model == dict(type='A', data_preprocessor=PREPROCESSOR) and scope is None
    distiller = dict(type='mmdiffkd.DiffKDDistiller', student=dict(type='A'))
    assert student_config(distiller) == dict(type='A')
    distiller['data_preprocessor'] = PREPROCESSOR
    assert student_config(distiller) == model
    distiller['student']['data_preprocessor'] = 'own'
    assert student_config(distiller) == dict(type='A', data_preprocessor='own')
    assert student_config(dict(type='A')) == dict(type='A')


def test_no_weights_are_left_to_load():
    """Wherever a config has them, in whichever of the libraries' ways."""
    pretrained = dict(type='Pretrained', checkpoint='x.pth')
    normal = dict(type='Normal', std=0.1)
    model = dict(
        pretrained='x.pth',
        # mmdet's PVT does not ask for a type, mmseg's text encoder has its own.
        backbone=dict(init_cfg=dict(checkpoint='x'), timm=dict(pretrained=True)),
        text=dict(init_cfg=dict(type='Pretrained_Part', checkpoint='x.pth')),
        heads=[dict(init_cfg=[normal, pretrained]), dict(init_cfg=(pretrained,))],
        neck=dict(init_cfg=normal, checkpoint=True),
        teacher_ckpt='x.pth',
        other=dict(checkpoint_path='x.bin'),
    )
    rest = copy.deepcopy(model['neck'])
    forget_weights(model)
    assert model == dict(
        pretrained=None,
        backbone=dict(init_cfg=None, timm=dict(pretrained=False)),
        text=dict(init_cfg=None),
        heads=[dict(init_cfg=[normal]), dict(init_cfg=None)],
        neck=rest,
        teacher_ckpt=None,
        other=dict(checkpoint_path=None),
    )
