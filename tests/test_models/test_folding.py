"""Which batch norms are folded, and that the model stays the same function."""

import copy
import logging

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmdiffkd.models import FrozenTeacher
from mmdiffkd.models.folding import ConvNormTrace, Folding
from mmdiffkd.models.input_matching import find_student_input
from tests.conftest import ToyModel


class Conv(nn.Conv2d):
    """Like mmcv's wrappers: a forward of its own that changes nothing."""

    def forward(self, x):
        return super().forward(x)


class StandardisedConv(nn.Conv2d):
    """Like mmcv's ConvWS: the weight it convolves with is not the one it has."""

    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


class ConvWithoutBias(nn.Conv2d):
    """Does not read the bias it has; a folded one would be lost."""

    def forward(self, x):
        return self._conv_forward(x, self.weight, None)


class BatchNormAct(nn.BatchNorm2d):
    """Like timm's: more than a batch norm."""

    def forward(self, x):
        return super().forward(x).relu()


class Block(nn.Module):
    """A convolution and a batch norm with statistics, run as ``how`` says."""

    def __init__(self, how, conv=None, norm=None):
        super().__init__()
        self.how = how
        self.conv = conv or nn.Conv2d(3, 6, 3, bias=False)
        self.norm = norm or nn.BatchNorm2d(6)
        self.other = nn.BatchNorm2d(6)

    def forward(self, x):
        return self.how(self, x)


def in_line(block, x):
    return block.norm(block.conv(x))


def direct_calls(block, x):
    return block.norm.forward(block.conv.forward(x))


def both_shared(block, x):
    return torch.cat([block.norm(block.conv(x)), block.norm(block.conv(-x))])


def relu_in_between(block, x):
    return block.norm(block.conv(x).relu())


def output_used_twice(block, x):
    x = block.conv(x)
    return block.norm(x) + x


def own_norm_per_call(block, x):
    return block.norm(block.conv(x)) + block.other(block.conv(-x))


def norm_used_alone(block, x):
    return block.norm(block.conv(x)) + block.norm(torch.cat([x, x], 1)).mean()


def weight_used_elsewhere(block, x):
    return block.norm(block.conv(x)) * block.conv.weight.mean()


FOLDED = [
    Block(in_line),
    Block(direct_calls),
    Block(both_shared),
    Block(in_line, conv=nn.Conv2d(3, 6, 3, groups=3, stride=2, bias=True)),
    Block(in_line, conv=nn.Conv2d(3, 6, 3, padding='same', padding_mode='reflect')),
    Block(in_line, conv=Conv(3, 6, 1)),
    Block(in_line, norm=nn.SyncBatchNorm(6)),
    Block(in_line, norm=nn.BatchNorm2d(6, affine=False, eps=0.1)),
]
UNTOUCHED = [
    Block(relu_in_between),
    Block(output_used_twice),
    Block(own_norm_per_call),
    Block(norm_used_alone),
    Block(weight_used_elsewhere),
    Block(in_line, conv=StandardisedConv(3, 6, 3)),
    Block(in_line, conv=ConvWithoutBias(3, 6, 3)),
    Block(in_line, conv=nn.utils.spectral_norm(nn.Conv2d(3, 6, 3))),
    Block(in_line, conv=nn.ConvTranspose2d(3, 6, 3)),
    Block(in_line, norm=BatchNormAct(6)),
    Block(in_line, norm=nn.GroupNorm(2, 6)),
    Block(in_line, norm=nn.BatchNorm2d(6, track_running_stats=False)),
]


def with_statistics(model):
    """In eval mode, with statistics and weights of batch norms as training leaves them."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if getattr(module, 'running_mean', None) is not None:
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            module.weight.data.uniform_(0.5, 2, generator=generator)
            module.bias.data.normal_(generator=generator)
    return model.eval().requires_grad_(False)


def folded(model, images):
    with ConvNormTrace() as trace:
        model(images)
    pairs = trace.pairs(model)
    return pairs, Folding(model, pairs)


def name_of(block):
    return f'{block.how.__name__}-{type(block.conv).__name__}-{type(block.norm).__name__}'


@pytest.mark.parametrize('block', FOLDED, ids=name_of)
def test_folds_and_stays_the_same_function(block, images):
    block = with_statistics(copy.deepcopy(block))
    expected, expected_part = block(images), block(images[:1, :, 1:])
    conv, norm = block.conv, block.norm
    before = {key: (value, value.clone()) for key, value in block.state_dict().items()}
    pairs, folding = folded(block, images)
    assert pairs == [(conv, norm)]
    assert isinstance(block.norm, nn.Identity)
    assert not any(p.requires_grad for p in conv.parameters())
    torch.testing.assert_close(block(images), expected)
    # Also on another number and size of images.
    torch.testing.assert_close(block(images[:1, :, 1:]), expected_part)
    # Nothing was changed in place, and all comes back.
    assert all(torch.equal(value, copied) for value, copied in before.values())
    folding.undo()
    assert block.norm is norm
    assert torch.equal(block(images), expected)


@pytest.mark.parametrize('block', UNTOUCHED, ids=name_of)
def test_leaves_alone_what_would_become_another_function(block, images):
    block = with_statistics(copy.deepcopy(block))
    expected = block(images)
    pairs, _ = folded(block, images)
    assert pairs == []
    assert torch.equal(block(images), expected)


@MODELS.register_module()
class ToySharedHead(ToyModel):
    """As RTMDet's: one convolution for all levels, a batch norm for each."""

    def __init__(self, unseen=False, **kwargs):
        super().__init__(**kwargs)
        width = self.head.cls.in_channels
        self.tower = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in self.neck.convs)
        # Where folding does not find it.
        self.first_norm = [self.backbone[1]] if unseen else None

    def extract_feat(self, inputs):
        if self.first_norm is None:
            return super().extract_feat(inputs)
        return self.neck(self.first_norm[0](self.backbone[0](inputs)).relu())

    def forward(self, inputs, data_samples=None, mode='tensor'):
        levels = self.extract_feat(inputs)
        return [
            self.head.cls(norm(self.tower(level)).relu_())
            for norm, level in zip(self.norms, levels)
        ]


def teacher_of(paths, **kwargs):
    teacher = FrozenTeacher(dict(type='ToySharedHead', **kwargs), 'random')
    with_statistics(teacher.model)
    teacher.prepare(paths, find_student_input(teacher.model))
    return teacher


def norms_of(teacher):
    return [n for n, m in teacher.model.named_modules() if isinstance(m, nn.BatchNorm2d)]


PER_LEVEL = ['norms.0', 'norms.1']


@pytest.mark.parametrize(
    ('paths', 'left'),
    [
        (['head.cls'], PER_LEVEL),
        (['head.cls', 'backbone', 'backbone.1'], PER_LEVEL),
        # What is captured must stay what it was.
        (['head.cls', 'backbone.0'], ['backbone.1', *PER_LEVEL]),
        (['head.cls', 'backbone.1:input'], ['backbone.1', *PER_LEVEL]),
        # What never runs is left as it is.
        (['backbone.0:input'], ['backbone.1', *PER_LEVEL]),
    ],
)
def test_features_of_a_teacher(paths, left, images):
    teacher = teacher_of(paths)
    expected = teacher.features(images)
    teacher.capture.stop_after = {path: len(tensors) for path, tensors in expected.items()}
    teacher.optimize(images[:1])
    assert norms_of(teacher) == left
    features = teacher.features(images)
    assert set(features) == set(paths)
    for path in paths:
        torch.testing.assert_close(features[path], expected[path])


def test_is_taken_back_if_features_differ(images, monkeypatch):
    messages = []
    monkeypatch.setattr(
        'mmdiffkd.models.inference.print_log',
        lambda text, *level: messages.append((text, level)),
    )
    teacher = teacher_of(['neck'], unseen=True)
    expected, weights = teacher.features(images), copy.deepcopy(teacher.model.state_dict())
    teacher.optimize(images)
    assert norms_of(teacher) == ['backbone.1', *PER_LEVEL]
    assert all(torch.equal(v, weights[k]) for k, v in teacher.model.state_dict().items())
    torch.testing.assert_close(teacher.features(images), expected)
    ((text, (_, level)),) = messages
    assert level == logging.WARNING and 'teacher.fold_bn was taken back' in text
    assert 'would differ by' in text and 'fold_bn=False' in text


def test_is_taken_back_if_the_model_fails_without_the_batch_norm(images, monkeypatch):
    def extract_feat(self, inputs):
        x = self.backbone(inputs)
        return (x * self.backbone[1].eps,)

    monkeypatch.setattr(ToySharedHead, 'extract_feat', extract_feat)
    teacher = teacher_of(['backbone', 'head.cls'])
    expected = teacher.features(images)
    teacher.optimize(images)
    assert 'backbone.1' in norms_of(teacher)
    torch.testing.assert_close(teacher.features(images), expected)
