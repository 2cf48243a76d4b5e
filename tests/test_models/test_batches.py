"""Batches that student and teacher cannot share."""

import pytest
import torch
from mmengine.registry import MODELS

from mmdiffkd.errors import ConfigError


def test_a_batch_of_several_is_refused(toy_distiller, images):
    for inputs in ([images, images], dict(sup=images)):
        with pytest.raises(ConfigError, match='ImgDataPreprocessor yields a .*of views'):
            toy_distiller(inputs, mode='loss')


def test_data_samples_that_say_nothing_of_the_image(toy_config, images):
    """Then all of the input is picture, also where it is converted for the teacher."""
    labels = torch.zeros(2)
    toy_config['teacher']['config'] = dict(
        toy_config['teacher']['config'],
        data_preprocessor=dict(type='ImgDataPreprocessor', mean=[1.0] * 3, std=[2.0] * 3),
    )
    toy_config['teacher']['checkpoint'] = 'random'
    toy_config['student_input'] = dict(mean=[0.0] * 3, std=[1.0] * 3, rgb=False)
    distiller = MODELS.build(toy_config)
    for samples in (None, labels, dict(label=labels), [labels, labels]):
        assert distiller(images, samples, mode='loss')['loss_kd_stem'] > 0


def test_a_part_of_the_images_is_refused_by_name(toy_distiller, images):
    levels = toy_distiller.student.neck.forward
    toy_distiller.student.neck.forward = lambda x: tuple(level[:1] for level in levels(x))
    with pytest.raises(ConfigError, match='pairs.fpn: .* 1 rows for 2 images'):
        toy_distiller(images, mode='loss')
