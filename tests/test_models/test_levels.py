"""Levels of two pyramids meet at equal strides, in configs written by hand too."""

import pytest
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

from mmdiffkd.errors import ConfigError
from mmdiffkd.models.shapes import better_cut, cut_to, octaves_of_both


@MODELS.register_module()
class ToyPyramid(BaseModel):
    """A pooled map per stride, a convolution that all of them share, and their vectors."""

    def __init__(self, strides, data_preprocessor=None):
        super().__init__(data_preprocessor=data_preprocessor or dict(type='ImgDataPreprocessor'))
        self.backbone = nn.Conv2d(3, 4, 1)
        self.neck = ToyLevels(strides)
        self.head = nn.Conv2d(4, 4, 1)
        self.vectors = nn.Flatten()

    def extract_feat(self, inputs):
        return self.neck(self.backbone(inputs))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        maps = [self.head(level) for level in self.extract_feat(inputs)]
        self.vectors(maps[-1].mean((2, 3)))
        return dict(loss_task=sum(m.mean() for m in maps)) if mode == 'loss' else maps


class ToyLevels(nn.Module):
    def __init__(self, strides):
        super().__init__()
        self.strides = strides

    def forward(self, x):
        return tuple(nn.functional.avg_pool2d(x, stride, ceil_mode=True) for stride in self.strides)


def build(student, teacher, path='neck', other=None):
    return MODELS.build(
        dict(
            type='mmdiffkd.DiffKDDistiller',
            student=dict(type='ToyPyramid', strides=student),
            teacher=dict(config=dict(type='ToyPyramid', strides=teacher), checkpoint='random'),
            pairs=dict(fpn=dict(student=path, teacher=other or path, loss=dict(type='MSELoss'))),
        )
    )


@pytest.mark.parametrize(
    'student, teacher, path, message',
    [
        ((8, 16, 32), (4, 8, 16), 'neck', r"strides .*; compare 'neck\[:2\]' with 'neck\[1:\]'"),
        ((8, 16, 32), (4, 8, 16), 'neck[0:3]', r"compare 'neck\[0:3\]\[:2\]' with"),
        ((8, 16), (8, 16, 32), 'neck', r"yields 2 maps, .*; compare 'neck' with 'neck\[:2\]'"),
        ((8, 16, 32), (4, 8, 16), 'head', 'compare modules that yield all levels'),
    ],
)
def test_shifted_levels_are_refused_with_those_that_fit(student, teacher, path, message):
    with pytest.raises(ConfigError, match=f'pairs.fpn: .*{message}'):
        build(student, teacher, path)


@pytest.mark.parametrize(
    'student, teacher, path, warns',
    [
        ((4, 8, 8, 8), (4, 8, 16, 32), 'neck', True),
        ((4, 8, 16), (4, 8, 16), 'head', False),
        ((32,), (16,), 'neck[0]', True),
        ((32,), (16,), 'vectors', False),
    ],
)
def test_strides_without_a_better_match_are_a_warning(student, teacher, path, warns, monkeypatch):
    said = []
    monkeypatch.setattr('mmdiffkd.models.pair.tell', lambda text, *_: said.append(text))
    build(student, teacher, path)
    assert len(said) == warns and all('strides' in text for text in said)


def test_cuts():
    assert better_cut([2, 3, 3, 3], [2, 3, 4, 5]) is None
    assert better_cut([3, 4], [6, 7]) is None
    levels = better_cut([3, 4, 5], [2, 3, 4])
    assert cut_to(['neck', 'a[1:]:input'], levels, [3, 3]) == ('neck[:2]', 'a[1:][1:]:input')
    # A vector has no stride.
    assert octaves_of_both([(1, 1, 1)], [(1, 7, 7)], 224) == ([5], [5])


def test_levels_of_a_teacher_with_images_of_another_size(toy_config):
    """Its strides are those of its own images."""
    toy_config['teacher']['image_size'] = 448
    pair = MODELS.build(toy_config).pairs['fpn']
    assert pair.summary == (
        'student neck (8x112x112, 8x56x56) learns from teacher neck (12x224x224, 12x112x112)'
    )
