"""The teacher sees the input it was trained with, whatever the student's preprocessing."""

import pytest
import torch
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import BaseDataElement

from mmdiffkd.distillers.preprocessing import InputConverter, InputFormat

RGB = dict(
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_value=0
)
CAFFE = dict(mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], pad_value=0)
RAW = dict(pad_value=114)


def preprocessor(cfg):
    return ImgDataPreprocessor(pad_size_divisor=32, **cfg)


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
    converter = InputConverter(*(InputFormat.of(preprocessor(cfg)) for cfg in (student, teacher)))
    before = prepared(student)
    converted = converter(before, samples())
    torch.testing.assert_close(converted, prepared(teacher), rtol=1e-5, atol=1e-3)
    assert torch.equal(before, prepared(student))
    assert converter.is_identity == (student is teacher)


def test_identity_costs_nothing():
    converter = InputConverter(*[InputFormat.of(preprocessor(RGB))] * 2)
    x = prepared(RGB)
    assert converter(x, samples()) is x


def test_without_data_samples_all_is_image():
    converter = InputConverter(*(InputFormat.of(preprocessor(cfg)) for cfg in (RGB, CAFFE)))
    x = prepared(RGB)[:1, :, :40, :60]
    torch.testing.assert_close(converter(x), prepared(CAFFE)[:1, :, :40, :60], rtol=1e-5, atol=1e-3)


class Recorder(torch.nn.Module):
    def forward(self, x):
        self.seen = x
        return x


def test_distiller_gives_the_teacher_its_own_input(toy_config):
    """A caffe-style BGR teacher of an RGB student, through the whole distiller."""
    toy_config['student']['data_preprocessor'] = dict(
        type='ImgDataPreprocessor', pad_size_divisor=32, **RGB
    )
    toy_config['teacher']['config']['data_preprocessor'] = dict(
        type='ImgDataPreprocessor', pad_size_divisor=32, **CAFFE
    )
    distiller = MODELS.build(toy_config)
    recorder = Recorder()
    distiller.teacher.model.backbone.insert(0, recorder)
    data = distiller.data_preprocessor(dict(inputs=images(), data_samples=samples()), True)
    distiller(**data, mode='loss')
    torch.testing.assert_close(recorder.seen, prepared(CAFFE), rtol=1e-5, atol=1e-3)


@pytest.mark.contract(1, 'frozen teacher')
def test_converter_moves_with_the_distiller(toy_config):
    toy_config['student']['data_preprocessor'] = dict(type='ImgDataPreprocessor', **RGB)
    distiller = MODELS.build(toy_config).double()
    assert distiller.teacher.converter.scale.dtype == torch.float64
    assert next(distiller.teacher.model.parameters()).dtype == torch.float64


@pytest.mark.parametrize(
    ('library', 'student', 'teacher'),
    [
        (
            'mmdet',
            dict(type='DetDataPreprocessor', pad_size_divisor=32, **RGB),
            dict(type='DetDataPreprocessor', pad_size_divisor=32, **CAFFE),
        ),
        (
            'mmpretrain',
            dict(type='ClsDataPreprocessor', mean=RGB['mean'], std=RGB['std'], to_rgb=True),
            dict(type='ClsDataPreprocessor', mean=CAFFE['mean'], std=CAFFE['std'], to_rgb=False),
        ),
    ],
)
def test_preprocessors_of_the_hosts(library, student, teacher):
    host = pytest.importorskip(library)
    if library == 'mmdet':
        from mmdet.structures import DetDataSample as Sample
    else:
        from mmpretrain.structures import DataSample as Sample
    with DefaultScope.overwrite_default_scope(host.__name__):
        built = [MODELS.build(dict(cfg)) for cfg in (student, teacher)]

    def batch(module):
        data_samples = [Sample(metainfo=sample.metainfo) for sample in samples()]
        data = module(dict(inputs=images(), data_samples=data_samples))
        return data['inputs'], data['data_samples']

    converter = InputConverter(*(InputFormat.of(module) for module in built))
    torch.testing.assert_close(
        converter(*batch(built[0])), batch(built[1])[0], rtol=1e-5, atol=1e-3
    )
