"""From configs to model dicts, and what is said about those that do not work."""

import re
import sys

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mmdiffkd.errors import ConfigError
from mmdiffkd.models import FeatureCapture
from mmdiffkd.models.configs import forget_weights, load_config, model_config, student_config
from mmdiffkd.models.dry_run import blaming, first_accepted
from mmdiffkd.models.hosts import build_model, run_for_features

PREPROCESSOR = dict(type='ImgDataPreprocessor', mean=[1.0], std=[2.0])


def test_config_files_that_do_not_work(tmp_path):
    path = tmp_path / 'config.py'
    for text, message in (
        ('model = dict(', "student: '.*config.py' cannot be read: .* was never closed"),
        ('optimizer = dict()', "student: '.*config.py' has no 'model'"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            model_config(str(path), 'student')


def test_configs_of_a_host_that_its_models_name():
    """They are found in the installed library, whose configs name them as in its repository."""
    pytest.importorskip('mmdet')

    class Distilled(torch.nn.Module):
        def __init__(self, teacher_config, own):
            super().__init__()
            self.paths = teacher_config, own

    name = 'configs/gfl/gfl_r101_fpn_ms-2x_coco.py'
    kind = dict(type=Distilled, _scope_='mmdet', teacher_config=name, own='configs/own.py')
    found, own = build_model(kind, 'student').paths
    assert load_config(found, '').model.type == 'GFL' and own == 'configs/own.py'


def test_files_beside_a_config(tmp_path, monkeypatch):
    """They are found wherever the command runs; those of the current folder are, too."""
    path = tmp_path / 'configs' / 'distilled.py'
    path.parent.mkdir()
    names = 'student.py', 'teacher.py', 'weights.pth'
    teacher = dict(config='teacher.py', checkpoint='weights.pth')
    path.write_text(f'model = {dict(student="student.py", teacher=teacher)}')
    for folder in (tmp_path, path.parent):
        for name in names:
            (folder / name).write_text('model = {}')
        monkeypatch.chdir(tmp_path)
        model = load_config(path, 'config').model
        found = model.student, model.teacher.config, model.teacher.checkpoint
        assert [(tmp_path / file).resolve() for file in found] == [folder / name for name in names]


def test_preprocessing_beside_the_model_is_taken_along(tmp_path):
    """There mmpretrain's configs have it; the model's own comes first."""
    path = tmp_path / 'config.py'
    path.write_text(f"model = dict(type='A')\ndata_preprocessor = {PREPROCESSOR}")
    model = model_config(path, 'student')
    assert model == dict(type='A', data_preprocessor=PREPROCESSOR)
    distiller = dict(student=dict(type='A'), data_preprocessor=PREPROCESSOR)
    assert student_config(distiller) == model
    distiller['student']['data_preprocessor'] = 'own'
    assert student_config(distiller) == dict(type='A', data_preprocessor='own')


def test_class_of_a_script_or_a_notebook(monkeypatch):
    """Its module, ``__main__``, is no importable one."""
    monkeypatch.setattr(sys.modules['__main__'], '__spec__', None)
    kind = type('Own', (torch.nn.Conv2d,), dict(__module__='__main__'))
    assert isinstance(
        build_model(dict(type=kind, in_channels=3, out_channels=4, kernel_size=1), 'x'), kind
    )


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
    )
    assert forget_weights(model) == dict(
        pretrained=None,
        backbone=dict(init_cfg=None, timm=dict(pretrained=False)),
        text=dict(init_cfg=None),
        heads=[dict(init_cfg=[normal]), dict(init_cfg=None)],
        neck=dict(init_cfg=normal, checkpoint=True),
        teacher_ckpt=None,
    )


PARTS = dict(backbone=dict(type='ResNet', depth=18), neck=dict(type='GlobalAveragePooling'))
PIXELS = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)


@pytest.fixture
def written(tmp_path):
    """A function that writes a config file and returns its path."""

    def write(**content):
        (tmp_path / 'config.py').write_text('\n'.join(f'{k} = {v!r}' for k, v in content.items()))
        return str(tmp_path / 'config.py')

    return write


@pytest.mark.parametrize('run', ['mmdet', 'mmpretrain', None])
def test_parts_are_looked_up_where_the_model_is_from(run, written):
    """The file's scope, the library of the name or that of the type: not the run's."""
    for host in ('mmdet', 'mmpretrain'):
        pytest.importorskip(host)
    typed = dict(type='mmpretrain.ImageClassifier', **PARTS)
    bare = dict(type='ImageClassifier', **PARTS)
    zoo = 'mmpretrain::dinov2/vit-small-p14_dinov2-pre_headless.py'
    with DefaultScope.overwrite_default_scope(run):
        for config in (
            typed,
            dict(bare, _scope_='mmpretrain'),
            dict(bare, type=MODELS.get('mmpretrain.ImageClassifier')),
            written(model=typed),
            written(model=bare, default_scope='mmpretrain'),
            zoo,
        ):
            backbone = build_model(config, 'teacher.config').backbone
            assert type(backbone).__module__.startswith('mmpretrain.')
        if run != 'mmpretrain':
            with pytest.raises(ConfigError, match="no 'ImageClassifier' .* 'mmpretrain.ImageCl"):
                build_model(bare, 'teacher.config')


def test_a_plain_module_is_run_on_images_alone(written):
    """What stands beside it, or in its dict, is its preprocessing."""
    pytest.importorskip('mmpretrain')
    backbone = dict(type='mmpretrain.ResNet', depth=18)
    images = torch.ones(1, 3, 32, 32)
    assert not hasattr(build_model(backbone, 'teacher.config'), 'data_preprocessor')
    for config in (
        dict(backbone, data_preprocessor=dict(PIXELS)),
        written(model=backbone, data_preprocessor=PIXELS),
    ):
        model = build_model(config, 'teacher.config')
        model.eval()
        assert model.data_preprocessor.mean.flatten().tolist() == PIXELS['mean']
        assert not [key for key in model.state_dict() if 'preprocessor' in key]
        with FeatureCapture(model, ['layer4']) as features:
            run_for_features(model, features, images)
        assert features['layer4'][0].shape == (1, 512, 1, 1)


CHANNELS = 'expected input[1, 9, 8, 8] to have 3 channels, but got 9 channels instead'


@pytest.mark.parametrize(
    ('error', 'tries'),
    [
        (AssertionError('8 is not 384'), 3),
        (RuntimeError(CHANNELS), 2),
        (AttributeError('no attribute'), 1),
        (ConfigError('no module'), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_images_are_tried_only_if_they_may_help(error, tries):
    tried = []

    def run(shape):
        tried.append(shape)
        with blaming('student', torch.zeros(1, *shape)):
            raise error

    with pytest.raises(ConfigError, match=re.escape(str(error))):
        first_accepted([(3, 8, 8), (3, 16, 16), (1, 8, 8)], run)
    assert len(tried) == tries
