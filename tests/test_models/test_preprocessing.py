"""The teacher sees the input it was trained with, whatever the student's preprocessing."""

import math

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import MODELS, TRANSFORMS
from mmengine.structures import BaseDataElement

from mmdiffkd.errors import ConfigError
from mmdiffkd.models.input_matching import find_student_input, teacher_converter
from mmdiffkd.models.preprocessing import InputConverter, InputFormat, extent_of, record_extents
from mmdiffkd.models.probing import probe

RGB = dict(
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_value=0
)
CAFFE = dict(mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], pad_value=0)
RAW = dict(pad_value=114)


def preprocessor(cfg):
    return ImgDataPreprocessor(pad_size_divisor=32, **cfg)


def converter_between(*modules):
    return InputConverter(*(probe(None, module, 3).format for module in modules))


def images():
    torch.manual_seed(0)
    sizes = [(3, 40, 60), (3, 64, 50)]
    return [torch.randint(0, 256, size, dtype=torch.uint8) for size in sizes]


def samples():
    return [BaseDataElement(metainfo=dict(img_shape=tuple(x.shape[1:]))) for x in images()]


def prepared(cfg):
    return preprocessor(cfg)(dict(inputs=images()))['inputs']


@pytest.mark.parametrize('student', [RGB, CAFFE, RAW])
@pytest.mark.parametrize('teacher', [RGB, CAFFE, RAW])
def test_teacher_gets_what_its_own_preprocessing_would_give(student, teacher):
    converter = converter_between(preprocessor(student), preprocessor(teacher))
    converted = converter(prepared(student), samples())
    torch.testing.assert_close(converted, prepared(teacher), rtol=1e-5, atol=1e-3)
    assert converter.is_identity == (student is teacher)


@pytest.mark.parametrize('unknown', [None, torch.zeros(1, 6), dict(labels=1), [dict()], [None]])
def test_without_data_samples_of_a_host_all_is_image(unknown):
    converter = converter_between(preprocessor(RGB), preprocessor(CAFFE))
    x, expected = (prepared(cfg)[:1, :, :40, :60] for cfg in (RGB, CAFFE))
    record_extents(None, (dict(inputs=x, data_samples=unknown),))
    torch.testing.assert_close(converter(x, unknown), expected, rtol=1e-5, atol=1e-3)


def test_padding_is_what_the_preprocessor_padded():
    """Not what ``img_shape`` says, which many transforms leave as it was."""
    samples_ = [BaseDataElement(metainfo=dict(img_shape=(20, 90))) for _ in images()]
    module = preprocessor(RGB)
    module.register_forward_pre_hook(record_extents)
    batch = module(dict(inputs=images(), data_samples=samples_))
    converter = converter_between(preprocessor(RGB), preprocessor(CAFFE))
    torch.testing.assert_close(
        converter(batch['inputs'], batch['data_samples']), prepared(CAFFE), rtol=1e-5, atol=1e-3
    )


def test_padding_of_a_batch_that_is_resized():
    """mmdet's BatchSyncRandomResize scales ``img_shape`` with the batch."""
    sample = BaseDataElement(metainfo=dict(img_shape=(20, 90)))
    record_extents(None, (dict(inputs=[torch.zeros(3, 40, 60)], data_samples=[sample]),))
    assert tuple(extent_of(sample)) == (40, 60)
    sample.set_metainfo(dict(img_shape=(40, 180)))
    assert tuple(extent_of(sample)) == (80, 120)


def test_numbers_of_other_channels():
    """Formats of one channel and of three would be added without a word."""
    given = dict(mean=[1.0, 2, 3, 4], std=[1.0, 2, 3, 4], rgb=True)
    student = find_student_input(MODELS.build(dict(type='ToyModel')), given=given)
    with pytest.raises(ConfigError, match='have 4 channels, the teacher.s 3'):
        teacher_converter({}, torch.nn.Identity(), dict(IMAGENET), student)
    with pytest.raises(ConfigError, match='must be lists of one finite number per channel'):
        InputFormat.from_config(dict(mean=[], std=[], rgb=True), 'student_input')


class Focus(torch.nn.Conv2d):
    """Stands for that of YOLOX, which makes 12 channels of an image's 3."""


def test_pictures_of_a_model_that_rearranges_pixels():
    student = MODELS.build(dict(type='ToyModel'))
    student.backbone = torch.nn.Sequential(Focus(12, 8, 3), student.backbone[1:])
    loader = [dict(type='LoadImageFromFile')]
    found = find_student_input(student, dict(dataset=dict(type='Any', pipeline=loader)))
    assert found.alone.channels == found.shapes.channels == 3


def test_seeds_of_gpus_are_left_alone(monkeypatch):
    """CUDA would take them over when it is initialised."""
    monkeypatch.delattr(torch.cuda, 'manual_seed_all')
    before = torch.get_rng_state()
    probe([dict(type='RandomFlip', prob=0.5)], ImgDataPreprocessor(), 3)
    assert torch.equal(torch.get_rng_state(), before)


# Statistics of pixels from 0 to 255 in RGB order, and the same in other words.
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], rgb=True)
NORMALIZE = dict(type='Normalize', mean=IMAGENET['mean'], std=IMAGENET['std'], to_rgb=True)


def test_numbers_that_are_none_of_pixels():
    for wrong in (dict(mean=[0.5] * 3, std=[0.2] * 3), dict(std=[255]), dict(mean=[math.nan] * 3)):
        with pytest.raises(ConfigError, match='^teacher.input: .* finite number per channel'):
            InputFormat.from_config({**IMAGENET, **wrong}, 'teacher.input')


@TRANSFORMS.register_module()
class Custom(BaseTransform):
    """A user's own, which nobody knows by name."""

    def __init__(self, change):
        self.change = change

    def transform(self, results):
        return dict(results, img=self.change(results))


def custom(change):
    return dict(type='Custom', change=change)


def load_from_elsewhere(results):
    """As from an archive that is not there."""
    raise FileNotFoundError(results['img_path'])


def to_unit(results):
    """RGB from 0 to 1, as torchvision's."""
    return torch.from_numpy(results['img'][..., ::-1].copy()).permute(2, 0, 1) / 255


def normalize_unit(results):
    mean, std = (torch.tensor(IMAGENET[key]).view(-1, 1, 1) / 255 for key in ('mean', 'std'))
    return (results['img'] - mean) / std


def jitter(results):
    """Augmentation of colours, which says nothing about normalisation."""
    return results['img'] * np.random.uniform(0.5, 1)


def mosaic(results):
    """A single picture is not enough."""
    return results['mix_results'][0]['img']


def test_pixels_that_a_data_set_has_itself_are_rgb():
    file, elsewhere = dict(type='LoadImageFromFile'), custom(load_from_elsewhere)
    for loader, rgb in (([file], False), ([elsewhere], False), ([], True)):
        found = probe([*loader, dict(type='Resize', scale=(64, 32))], preprocessor(RAW), 3)
        assert found.format.rgb == rgb and found.shape == (3, 32, 64)


@pytest.mark.parametrize(
    ('transforms', 'mean', 'std', 'rgb'),
    [
        ([dict(type='LoadImageFromFile')], [0] * 3, [1] * 3, False),
        ([dict(type='LoadImageFromFile'), NORMALIZE], IMAGENET['mean'], IMAGENET['std'], True),
        ([custom(to_unit), custom(normalize_unit)], IMAGENET['mean'], IMAGENET['std'], True),
        ([custom(jitter), custom(mosaic), custom(to_unit)], [0] * 3, [255] * 3, True),
    ],
)
def test_normalisation_is_found_whoever_does_it(transforms, mean, std, rgb):
    before = torch.get_rng_state()
    found = probe([custom(load_from_elsewhere), *transforms], ImgDataPreprocessor(), 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.format.mean.flatten().tolist() == pytest.approx(mean, abs=0.01)
    assert found.format.std.flatten().tolist() == pytest.approx(std, rel=1e-3)
    assert found.format.rgb is rgb


@pytest.mark.parametrize('channels', [1, 4, 7])
def test_pictures_of_other_channels(channels):
    load = dict(type='LoadImageFromFile', color_type='unchanged')
    found = probe([load] if channels in (1, 4) else [], ImgDataPreprocessor(), channels)
    assert len(found.format.mean) == channels and not found.format.normalises
    assert found.shape is None, 'they stay of any size'


def data_with(*transforms):
    return dict(dataset=dict(type='ToyData', pipeline=[*transforms]))


class TestWhatTheTeacherGets:
    """Of pictures that the student's own pipeline normalises."""

    @pytest.fixture
    def config(self, toy_config):
        toy_config['data'] = data_with(NORMALIZE)
        return toy_config

    def test_through_the_whole_distiller(self, toy_config):
        """What the teacher's own preprocessing would make of the images, whatever the student's."""
        toy_config['student']['data_preprocessor'] = dict(type='ImgDataPreprocessor', **RGB)
        teacher = toy_config['teacher']['config']
        teacher['data_preprocessor'] = dict(type='ImgDataPreprocessor', **CAFFE)
        distiller, seen = MODELS.build(toy_config), []
        distiller.teacher.model.backbone.register_forward_pre_hook(
            lambda _, args: seen.extend(args)
        )
        batch = dict(inputs=images(), data_samples=samples())
        distiller(**distiller.data_preprocessor(batch, True), mode='loss')
        expected = ImgDataPreprocessor(**CAFFE)(dict(inputs=images()))['inputs']
        torch.testing.assert_close(seen[-1], expected, rtol=1e-5, atol=1e-3)

    def test_a_dict_without_preprocessor_gets_the_student_s(self, config):
        assert MODELS.build(config).teacher.converter.is_identity
        config['teacher']['config']['data_preprocessor'] = None
        assert MODELS.build(config).teacher.converter.is_identity

    def test_a_preprocessor_that_normalises_is_known(self, config):
        config['teacher']['config']['data_preprocessor'] = dict(type='ImgDataPreprocessor', **RGB)
        assert MODELS.build(config).teacher.converter.is_identity
        config['teacher']['config']['data_preprocessor'] = dict(type='ImgDataPreprocessor', **CAFFE)
        assert not MODELS.build(config).teacher.converter.is_identity
        preprocessor = dict(type='ImgDataPreprocessor', bgr_to_rgb=True)
        config['teacher']['config']['data_preprocessor'] = preprocessor
        with pytest.raises(ConfigError, match=r'teacher.input: it .* teacher.input=dict\(mean='):
            MODELS.build(config)

    def test_of_a_config_file_its_pipeline_counts(self, config, tmp_path):
        teacher = dict(config['teacher'], config=str(tmp_path / 'teacher.py'))
        for transforms, same in (([NORMALIZE], True), ([], False)):
            cfg = dict(model=config['teacher']['config'], test_dataloader=data_with(*transforms))
            Config(cfg).dump(teacher['config'])
            assert MODELS.build(dict(config, teacher=teacher)).teacher.converter.is_identity is same

    def test_unknown_pictures_of_the_student(self, config):
        config['teacher']['config']['data_preprocessor'] = dict(type='ImgDataPreprocessor', **RGB)
        del config['data']
        with pytest.raises(ConfigError, match='student_input: it cannot be known'):
            MODELS.build(config)
        config['teacher']['input'] = 'student'
        assert MODELS.build(config).teacher.converter.is_identity
        del config['teacher']['input']
        config['student_input'] = IMAGENET
        assert MODELS.build(config).teacher.converter.is_identity

    def test_pictures_that_are_not_what_they_seem(self, config, images):
        """As when a data set normalises by itself, behind its pipeline."""
        config['teacher']['config']['data_preprocessor'] = dict(type='ImgDataPreprocessor', **RGB)
        config['data'] = data_with()
        distiller = MODELS.build(config)
        with pytest.raises(ConfigError, match="student_input: the student's pictures cannot be"):
            distiller(images / 10, mode='loss')


@pytest.mark.parametrize('shape', [(1, 28, 28), (4, 20, 36)])
def test_without_transforms_the_first_sample_tells_the_shape(shape):
    data = dict(dataset=[dict(inputs=torch.zeros(shape))])
    found = find_student_input(MODELS.build(dict(type='ToyModel')), data)
    assert found.shape == shape and next(iter(found.shapes)) == shape
