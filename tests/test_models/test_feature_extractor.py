"""Backbones of timm and transformers as teachers, tiny and with random weights."""

import re

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from safetensors.torch import load_file, save_file

from mmdiffkd.errors import CheckpointError, ConfigError
from mmdiffkd.models import FrozenTeacher
from mmdiffkd.models.hosts import build_model

SMALL = dict(depth=1, embed_dim=24, num_heads=2)
DINOV2 = 'vit_small_patch14_dinov2.lvd142m'


def config_of(name, **settings):
    pytest.importorskip(name.partition('::')[0])
    return dict(type='mmdiffkd.FeatureExtractor', name=name, **settings)


def dinov2(**settings):
    return config_of(f'timm::{DINOV2}', **{**SMALL, **settings})


def assert_same_places(feature, tokens, grid):
    """A map (N, C, H, W) has the tokens of the patches (N, L, C) at their places."""
    assert feature.shape[2:] == grid
    torch.testing.assert_close(feature.flatten(2).transpose(1, 2), tokens)


@pytest.mark.parametrize(
    'name, patch',
    [
        (DINOV2, 14),
        ('vit_small_patch14_reg4_dinov2', 14),
        ('vit_small_patch16_dinov3', 16),
        ('vit_base_patch16_siglip_224', 16),
    ],
)
def test_tokens_of_timm_are_maps(name, patch):
    size = (2 * patch, 3 * patch)
    model = build_model(config_of(f'timm::{name}', **SMALL), 'teacher').eval()
    images = torch.randn(2, 3, *size)
    (feature,) = model(images)
    tokens = model.backbone.forward_features(images)[:, model.backbone.num_prefix_tokens :]
    assert_same_places(feature, tokens, (2, 3))


def test_levels_of_a_convolutional_network():
    config = config_of('timm::resnet18', out_indices=(2, 3, 4))
    maps = build_model(config, 'teacher').eval()(torch.randn(2, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in maps] == [(128, 8, 12), (256, 4, 6), (512, 2, 3)]


@pytest.mark.parametrize('size', [None, 32])
def test_input_is_that_of_its_training(size, toy_config, monkeypatch):
    """Whatever the student's images are, they are normalised and resized as for the backbone.

    The teacher's ``image_size`` takes the place of the backbone's. That strides differ is no news.
    """
    monkeypatch.setattr('mmdiffkd.models.pair.tell', lambda text, *_: pytest.fail(text))
    name = 'timm::vit_base_patch16_siglip_224'  # (x - 127.5) / 127.5 of RGB
    preprocessor = dict(type='ImgDataPreprocessor', mean=[1.0] * 3, std=[2.0] * 3)
    distiller = MODELS.build(
        dict(
            toy_config,
            student=dict(toy_config['student'], data_preprocessor=preprocessor),
            teacher=dict(config=config_of(name, **SMALL), checkpoint='random', image_size=size),
            pairs=dict(
                last=dict(toy_config['pairs']['fpn'], student='neck[0]', teacher='features')
            ),
        )
    )
    seen = []
    distiller.teacher.model.backbone.patch_embed.register_forward_pre_hook(
        lambda _, args: seen.extend(args)
    )
    bgr = torch.randint(256, (2, 3, 20, 44), dtype=torch.uint8)
    losses = distiller(**distiller.data_preprocessor(dict(inputs=bgr)), mode='loss')
    rgb = (bgr.flip(1) - 127.5) / 127.5
    expected = F.interpolate(rgb, (size or 224,) * 2, mode='bilinear', antialias=True)
    torch.testing.assert_close(seen[-1], expected, rtol=1e-4, atol=1e-4)
    assert losses['loss_kd_last'].isfinite()


def test_published_weights_of_timm(tmp_path):
    """Those that timm finds for the name, here in a file."""
    path = tmp_path / 'weights.pth'
    published = build_model(dinov2(), 'teacher').backbone
    torch.save(published.state_dict(), path)
    config = dinov2(pretrained_cfg_overlay=dict(file=str(path)))
    weights = FrozenTeacher(config, 'zoo').model.backbone.state_dict()
    for name in weights:
        assert torch.equal(weights[name], published.state_dict()[name])
    path.unlink()
    with pytest.raises(CheckpointError, match=f"checkpoint='zoo': {DINOV2} cannot be loaded"):
        FrozenTeacher(config, 'zoo')


def test_a_file_is_loaded_strictly(tmp_path):
    path, config = tmp_path / 'weights.pth', dinov2()
    weights = build_model(config, 'teacher').backbone.state_dict()
    torch.save(weights, path)
    loaded = FrozenTeacher(config, str(path)).model.backbone.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())
    torch.save({name: value for name, value in weights.items() if name != 'norm.bias'}, path)
    with pytest.raises(CheckpointError, match='1 missing: backbone.norm.bias'):
        FrozenTeacher(config, str(path))


def test_what_cannot_be_built_is_one_sentence(monkeypatch):
    for name in ('resnet18', 'timm::', 'mmdet::resnet'):
        with pytest.raises(ConfigError, match="name must be 'timm::...' or 'transformers::"):
            build_model(dict(type='mmdiffkd.FeatureExtractor', name=name), 'teacher.config')
    monkeypatch.setattr('mmdiffkd.models.feature_extractor.is_installed', lambda library: False)
    with pytest.raises(ConfigError, match='needs timm, which is not installed'):
        build_model(dict(type='mmdiffkd.FeatureExtractor', name='timm::a'), 'teacher.config')


def test_half_precision(toy_config):
    teacher = dict(config=dinov2(), checkpoint='random', image_size=28, input='student')
    pair = dict(toy_config['pairs']['fpn'], student='neck[0]', teacher='features')
    distiller = MODELS.build(dict(toy_config, teacher=teacher, pairs=dict(last=pair))).bfloat16()
    converted = distiller.teacher.convert(torch.randn(1, 3, 20, 20).bfloat16(), None)
    (feature,) = distiller.teacher.model(converted)
    assert feature.dtype == torch.bfloat16 and feature.shape[2:] == (2, 2)


@pytest.fixture(params=['dinov2', 'dinov3_vit', 'siglip'])
def saved(request, tmp_path):
    """A tiny model in a folder, as the Hugging Face hub has models; the model and its folder."""
    transformers = pytest.importorskip('transformers', reason='transformers is not installed')
    small = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    small.update(image_size=32, patch_size=16)
    given = small
    if request.param == 'siglip':
        text = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
        given = dict(vision_config=small, text_config=text)
    config = transformers.AutoConfig.for_model(request.param, **given)
    model = transformers.AutoModel.from_config(config)
    model.save_pretrained(tmp_path)
    transformers.SiglipImageProcessor().save_pretrained(tmp_path)
    return getattr(model, 'vision_model', model).eval(), tmp_path


def test_transformers(saved):
    """Features and published weights; also for another size than that of the training."""
    model, folder = saved
    name = f'transformers::{folder}'
    teacher = FrozenTeacher(config_of(name), 'zoo').model
    assert teacher.data_preprocessor.mean.flatten().tolist() == [127.5] * 3
    images = torch.randn(2, 3, 32, 48)
    (feature,) = teacher(images)
    is_siglip = 'Siglip' in type(model).__name__
    options = dict(interpolate_pos_encoding=True) if is_siglip else {}
    tokens = model(images, **options).last_hidden_state
    assert_same_places(feature, tokens[:, -6:], (2, 3))
    first, last = build_model(config_of(name, out_indices=(0, -1)), 'teacher').eval()(images)
    assert first.shape == last.shape == (2, 24, 2, 3) and not torch.equal(first, last)


def test_missing_weights_of_transformers(saved):
    _, folder = saved
    path = folder / 'model.safetensors'
    weights = load_file(path)
    del weights[next(name for name in weights if re.search('^(?!text).*norm.bias$', name))]
    save_file(weights, path, dict(format='pt'))
    with pytest.raises(CheckpointError, match='1 weights are missing'):
        FrozenTeacher(config_of(f'transformers::{folder}'), 'zoo')
