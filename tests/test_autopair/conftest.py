"""Hosts in miniature: a detector, a segmentor and a classifier whose parts can be varied."""

import pytest
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

import mmdiffkd  # noqa: F401 (before any `mmseg::` config is read, see mmdiffkd.compat)


class Host(BaseModel):
    """Images have the ``side``, if it is given."""

    def __init__(self, side=None, **parts):
        super().__init__(dict(type='ImgDataPreprocessor'))
        self.side = side
        for name, part in parts.items():
            setattr(self, name, part)

    def extract_feat(self, inputs):
        assert self.side in (None, inputs.shape[-1])
        return self.backbone(inputs)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.head_of(self.extract_feat(inputs))


class BaseDetector(Host):
    """The names of this class and the next two tell the task of a model."""

    def extract_feat(self, inputs):
        maps = super().extract_feat(inputs)
        return self.neck(maps) if hasattr(self, 'neck') else maps


class BaseSegmentor(Host):
    def head_of(self, x):
        # As mmseg does it: past any hook.
        return self.decode_head.forward(x)


class BaseClassifier(Host):
    def head_of(self, x):
        return self.head(x)


class Stages(nn.Module):
    """Maps of strides 4, 8, 16, ..."""

    def __init__(self, width, levels, pooled=False):
        super().__init__()
        self.levels, self.pooled = levels, pooled
        self.stages = nn.ModuleList([nn.Conv2d(3, width, 3, stride=4, padding=1)])
        self.stages += [nn.Conv2d(width, width, 3, 2, 1) for _ in range(max(levels))]

    def forward(self, x):
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        if self.pooled:
            return x.mean((2, 3))
        return tuple(maps[i] for i in self.levels) if len(self.levels) > 1 else x


class Pyramid(nn.ModuleList):
    def forward(self, maps):
        return tuple(conv(x) for conv, x in zip(self, maps))


@MODELS.register_module()
class PairedDetector(BaseDetector):
    """Levels of strides 4 (level 0), 8, 16, ..., with a neck or without."""

    def __init__(self, width=4, levels=(1, 2, 3), neck=True, side=None):
        convs = Pyramid(nn.Conv2d(width, width, 1) for _ in levels)
        parts = dict(neck=convs) if neck else {}
        super().__init__(side, backbone=Stages(width, levels), **parts)


class SegmentorHead(nn.Module):
    """Its parts can be varied.

    With ``twice`` its bottleneck runs more often in training than in evaluation, with ``residual``
    its input is added to the bottleneck's output.
    """

    def __init__(self, width, num_classes, twice, residual):
        super().__init__()
        self.bottleneck = nn.Conv2d(width, width, 1)
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(width, num_classes, 1)
        self.twice, self.residual = twice, residual

    def forward(self, given):
        x = self.bottleneck(given)
        if self.twice and self.training:
            self.bottleneck(x)
        if self.residual:
            x = x + given
        return self.conv_seg(self.dropout(x))


@MODELS.register_module()
class PairedSegmentor(BaseSegmentor):
    def __init__(self, width=4, num_classes=5, twice=False, residual=False, side=None):
        head = SegmentorHead(width, num_classes, twice, residual)
        super().__init__(side, backbone=Stages(width, (1,)), decode_head=head)


class ClassifierHead(nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(x if x.ndim == 2 else x.mean((2, 3)))


class MultiLabelClsHead(ClassifierHead):
    """The name tells scores of several labels."""


@MODELS.register_module()
class PairedClassifier(BaseClassifier):
    """Its backbone yields a map, or if ``pooled`` a vector."""

    def __init__(self, width=4, num_classes=5, pooled=False, several_labels=False, side=None):
        head = MultiLabelClsHead if several_labels else ClassifierHead
        backbone = Stages(width, (1,), pooled)
        super().__init__(side, backbone=backbone, head=head(width, num_classes))


@pytest.fixture
def config_file(tmp_path):
    """Write a config that could be trained, with this model; returns its path."""

    def write(name, **model):
        path = tmp_path / f'{name}.py'
        path.write_text(
            f'model = {model!r}\n'
            'train_dataloader = dict(batch_size=2, dataset=dict(pipeline=[]))\n'
            'train_cfg = dict(by_epoch=True, max_epochs=1)\n'
            "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))\n"
        )
        return str(path)

    return write
