"""Hosts in miniature: a detector, a segmentor and a classifier whose parts can be varied."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

import mmdiffkd  # noqa: F401 (before any `mmseg::` config is read, see mmdiffkd.compat)


class BaseDetector(BaseModel):
    """Of this name, by which the task of a model is told."""


class BaseSegmentor(BaseModel):
    """Likewise."""


class BaseClassifier(BaseModel):
    """Likewise."""


class Stages(nn.Module):
    """Maps of strides 4, 8, 16, ..., the first of them frozen if so wanted."""

    def __init__(self, width, number, out_indices, frozen=0, pooled=False):
        super().__init__()
        self.out_indices = out_indices
        self.pooled = pooled
        self.stages = nn.ModuleList(
            nn.Conv2d(width if i else 3, width, 3, stride=2 if i else 4, padding=1)
            for i in range(number)
        )
        for stage in self.stages[:frozen]:
            stage.requires_grad_(False)

    def forward(self, x):
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        if self.pooled:
            return x.mean((2, 3))
        outputs = tuple(outputs[i] for i in self.out_indices)
        return outputs[0] if len(outputs) == 1 else outputs


class Pyramid(nn.Module):
    def __init__(self, width, number):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(number))

    def forward(self, maps):
        return tuple(conv(x) for conv, x in zip(self.convs, maps))


@MODELS.register_module()
class PairedDetector(BaseDetector):
    """Levels of strides 4 (level 0), 8, 16, ..., with a neck or without."""

    def __init__(self, width=4, levels=(1, 2, 3), frozen=0, neck=True):
        super().__init__(dict(type='ImgDataPreprocessor'))
        self.backbone = Stages(width, max(levels) + 1, levels, frozen)
        if neck:
            self.neck = Pyramid(width, len(levels))

    def extract_feat(self, inputs):
        maps = self.backbone(inputs)
        return self.neck(maps) if hasattr(self, 'neck') else maps

    def forward(self, inputs, data_samples=None, mode='tensor'):
        maps = self.extract_feat(inputs)
        return dict(loss_box=sum(m.mean() for m in maps)) if mode == 'loss' else maps


class SegmentorHead(nn.Module):
    def __init__(self, width, num_classes, twice):
        super().__init__()
        self.out_channels = num_classes
        self.bottleneck = nn.Conv2d(width, width, 1)
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(width, num_classes, 1)
        self.twice = twice

    def forward(self, x):
        x = self.bottleneck(x)
        if self.twice and self.training:
            self.bottleneck(x)
        return self.conv_seg(self.dropout(x))


@MODELS.register_module()
class PairedSegmentor(BaseSegmentor):
    """With ``twice`` its bottleneck runs more often in training than in evaluation."""

    def __init__(self, width=4, num_classes=5, twice=False):
        super().__init__(dict(type='ImgDataPreprocessor'))
        self.backbone = Stages(width, 2, (1,))
        self.decode_head = SegmentorHead(width, num_classes, twice)
        self.out_channels = num_classes

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.decode_head(self.backbone(inputs))
        if mode == 'loss':
            labels = torch.cat([sample.gt_sem_seg.data for sample in data_samples])
            scores = F.interpolate(scores, labels.shape[1:])
            return dict(loss_ce=F.cross_entropy(scores, labels))
        return scores


class MultiLabelClsHead(nn.Module):
    """Of this name, by which scores of several labels are told."""


class ClassifierHead(nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(x if x.ndim == 2 else x.mean((2, 3)))


class SeveralLabelsHead(ClassifierHead, MultiLabelClsHead):
    pass


@MODELS.register_module()
class PairedClassifier(BaseClassifier):
    """Its backbone yields a map, or if ``pooled`` a vector."""

    def __init__(self, width=4, num_classes=5, pooled=False, several_labels=False):
        super().__init__(dict(type='ImgDataPreprocessor'))
        self.backbone = Stages(width, 2, (1,), pooled=pooled)
        head = SeveralLabelsHead if several_labels else ClassifierHead
        self.head = head(width, num_classes)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.head(self.backbone(inputs))
        if mode == 'loss':
            labels = torch.cat([sample.gt_label for sample in data_samples])
            return dict(loss=F.cross_entropy(scores, labels))
        return scores


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
