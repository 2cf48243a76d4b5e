"""Batches that student and teacher cannot share."""

import pytest

from mmdiffkd.errors import ConfigError


def test_a_batch_of_several_is_refused(toy_distiller, images):
    for inputs in ([images, images], dict(sup=images)):
        with pytest.raises(ConfigError, match='ImgDataPreprocessor yields a .*of views'):
            toy_distiller(inputs, mode='loss')


def test_a_part_of_the_images_is_refused_by_name(toy_distiller, images):
    levels = toy_distiller.student.neck.forward
    toy_distiller.student.neck.forward = lambda x: tuple(level[:1] for level in levels(x))
    with pytest.raises(ConfigError, match='pairs.fpn: .* 1 rows for 2 images'):
        toy_distiller(images, mode='loss')
