"""What makes the teacher cheaper changes its features by rounding at most."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmdiffkd.capture import FeatureCapture, FeaturePath
from mmdiffkd.errors import ConfigError
from mmdiffkd.models import FrozenTeacher
from mmdiffkd.models.dry_run import blank_batch
from mmdiffkd.models.input_matching import find_student_input
from mmdiffkd.models.teacher_speed import (
    fold_batch_norms,
    relative_difference,
    use_channels_last,
)
from tests.conftest import ToyModel

PLAIN = dict(fold_bn=False, channels_last=False)
# Relative to the largest element of a feature.
TOLERANCES = {None: 1e-5, 'fp32': 1e-5, 'bf16': 0.03, 'fp16': 4e-3}
OWNER = nn.Module()


def dtypes(model):
    """Data types of the weights by the kind of module."""
    return {
        type(module).__name__: module.weight.dtype
        for module in model.modules()
        if isinstance(getattr(module, 'weight', None), torch.Tensor)
    }


def features_of(teacher, images, samples=None, fed=None):
    """Path to features of all that a teacher captures.

    The last of the paths is behind an input path that gets other values, if `fed` has these.
    """
    path, values = fed or (None, [])
    replaced = {FeaturePath.parse(path): 'values'} if fed else {}
    pairs = [
        SimpleNamespace(name=text, teacher_path=text, student_path='values', replaced={})
        for text in teacher.capture.texts
    ]
    pairs[-1].replaced = replaced
    return teacher.features(images, samples, pairs, {'values': values})


def optimize(teacher, images, samples=None, fed=None):
    teacher.optimize(lambda: features_of(teacher, images, samples, fed))


def toy_teacher_with(config, paths=('neck', 'head.cls'), **switches):
    teacher = FrozenTeacher(**{**config, **switches})
    teacher.prepare(OWNER, paths, find_student_input(teacher.model))
    return teacher


@pytest.mark.parametrize(
    'switches',
    [
        PLAIN,
        dict(fold_bn=False),
        dict(channels_last=False),
        dict(),
        dict(precision='fp32'),
        dict(precision='bf16'),
        dict(precision='fp16', **PLAIN),
    ],
)
def test_features_stay_the_same(toy_teacher, images, switches):
    teacher = toy_teacher_with(toy_teacher, **switches)
    expected = features_of(teacher, images)
    optimize(teacher, images[:1])
    features = features_of(teacher, images)
    assert relative_difference(features, expected) < TOLERANCES[switches.get('precision')]
    for path, tensors in features.items():
        assert [t.dtype for t in tensors] == [t.dtype for t in expected[path]]
        for tensor in tensors:
            is_channels_last = tensor.is_contiguous(memory_format=torch.channels_last)
            assert is_channels_last == switches.get('channels_last', True)
    norms = [m for m in teacher.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) != switches.get('fold_bn', True)


def test_a_captured_convolution_is_not_folded(toy_teacher, images):
    """Its output is taken before the batch norm; the other batch norms are folded."""
    teacher = toy_teacher_with(toy_teacher, ['backbone.0', 'neck'])
    backbone = teacher.model.backbone
    width = backbone[1].num_features
    backbone.extend([nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)]).eval()
    backbone[1].running_var.fill_(4)
    expected = features_of(teacher, images)
    optimize(teacher, images[:1])
    assert relative_difference(features_of(teacher, images), expected) < TOLERANCES[None]
    norms = [name for name, m in teacher.model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms == ['backbone.1']


def test_folding_without_a_neck():
    """Classifiers may have None in its place."""
    model = nn.Module()
    model.backbone, model.neck = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), None
    fold_batch_norms(model)
    assert 'BatchNorm2d' not in dtypes(model)


def test_a_distiller_s_teacher_is_optimized(toy_config, images):
    torch.manual_seed(0)
    distiller = MODELS.build(toy_config)
    toy_config['teacher'].update(PLAIN)
    torch.manual_seed(0)
    plain = MODELS.build(toy_config)
    assert 'BatchNorm2d' not in dtypes(distiller.teacher.model)
    assert 'BatchNorm2d' in dtypes(plain.teacher.model)
    expected = features_of(plain.teacher, images)
    assert relative_difference(features_of(distiller.teacher, images), expected) < 1e-5
    # Heads, noise and losses are the same; only the teacher differs.
    losses = []
    for model in (distiller, plain):
        torch.manual_seed(1)
        losses.append(model(images, mode='loss'))
    assert set(losses[0]) == set(losses[1])
    for name, value in losses[0].items():
        torch.testing.assert_close(value, losses[1][name], msg=name)


def test_inherited_weights_are_those_before_folding_and_casting(toy_config):
    saved = torch.load(toy_config['teacher']['checkpoint'])['state_dict']
    toy_config['student']['width'] = 12
    toy_config['init_from_teacher'] = ['backbone', 'neck']
    toy_config['teacher']['precision'] = 'bf16'
    distiller = MODELS.build(toy_config)
    assert not torch.equal(distiller.teacher.model.backbone[0].weight, saved['backbone.0.weight'])
    copy.deepcopy(distiller).init_weights()
    distiller.init_weights()
    for key, value in distiller.student.state_dict().items():
        if key.startswith(('backbone', 'neck')):
            assert torch.equal(value, saved[key]), key


class TestPrecision:
    def optimized(self, toy_teacher, images, precision):
        teacher = toy_teacher_with(toy_teacher, ['neck'], precision=precision, fold_bn=False)
        expected = features_of(teacher, images)
        optimize(teacher, images)
        return teacher, expected

    @pytest.mark.parametrize('precision', ['bf16', 'fp16'])
    def test_weights_are_held(self, toy_teacher, images, precision):
        teacher, _ = self.optimized(toy_teacher, images, precision)
        low = dict(bf16=torch.bfloat16, fp16=torch.float16)[precision]
        assert dtypes(teacher.model) == dict(Conv2d=low, BatchNorm2d=torch.float32)

    @pytest.mark.parametrize(('precision', 'cast'), [('fp32', 'half'), ('bf16', 'double')])
    def test_survives_casts_of_the_distiller(self, toy_config, images, precision, cast):
        toy_config['teacher']['precision'] = precision
        distiller = MODELS.build(toy_config)
        teacher = distiller.teacher
        expected, before = features_of(teacher, images), dtypes(teacher.model)
        getattr(distiller, cast)()
        assert dtypes(teacher.model) == before
        dtype = next(distiller.student.parameters()).dtype
        features = features_of(teacher, images.to(dtype))
        assert {t.dtype for tensors in features.values() for t in tensors} == {dtype}
        assert relative_difference(features, expected) < TOLERANCES['bf16']
        distiller.to('meta')
        assert all(p.is_meta for p in teacher.model.parameters())

    def test_of_its_own_in_a_run_with_another(self, toy_teacher, images):
        """Under --amp, 'fp32' stays exact; None does as the run does."""
        differences = {}
        for precision in (None, 'fp32', 'bf16', 'fp16'):
            teacher, expected = self.optimized(toy_teacher, images, precision)
            with torch.autocast('cpu', torch.bfloat16):
                features = features_of(teacher, images)
            dtype = torch.bfloat16 if precision is None else torch.float32
            assert {t.dtype for t in features['neck']} == {dtype}
            differences[precision] = relative_difference(features, expected)
        assert differences['fp32'] < 1e-5
        assert differences['fp32'] < differences['fp16'] < differences['bf16'] < 0.03
        assert 1e-4 < differences[None] < 0.03

    def test_what_the_student_feeds_is_cast_too(self, toy_teacher, images):
        teacher = toy_teacher_with(toy_teacher, ['head.cls'], precision='fp32')
        optimize(teacher, images)
        values = [torch.randn(2, 12, 4, 6, dtype=torch.float16) for _ in range(2)]
        fed = features_of(teacher, images, fed=('head.cls:input', values))['head.cls']
        expected = teacher.model.head.cls(values[0].float())
        torch.testing.assert_close(fed[0], expected)


def fails(model):
    raise ValueError('no such maps')


def changes_weights(model):
    model.backbone[0].weight.data.mul_(1.01)


@pytest.mark.parametrize('change', [fails, changes_weights])
def test_a_change_that_features_do_not_survive_is_taken_back(
    toy_teacher, images, monkeypatch, change
):
    monkeypatch.setattr('mmdiffkd.models.teacher.use_channels_last', change)
    teacher = toy_teacher_with(toy_teacher)
    expected = features_of(teacher, images)
    optimize(teacher, images)
    assert relative_difference(features_of(teacher, images), expected) < 1e-5


@MODELS.register_module()
class JoiningToy(ToyModel):
    """Joins the images of a batch, as dynamic convolutions do, by a view of contiguous maps."""

    def extract_feat(self, inputs):
        features = self.backbone(inputs)
        return self.neck(features.view(1, -1, *features.shape[2:]).view_as(features))


def test_several_images_are_tried(toy_config, images):
    """A view that joins images fails in channels-last format, but not for a single image."""
    toy_config['teacher']['config']['type'] = 'JoiningToy'
    losses = MODELS.build(toy_config)(images, mode='loss')
    assert all(loss.isfinite() for loss in losses.values())


def test_channels_last_is_for_2d_convolutions_only():
    model = nn.ModuleList([nn.Conv2d(4, 4, 3), nn.Conv3d(4, 4, 3), nn.Conv1d(4, 4, 3)])
    model.position = nn.Parameter(torch.zeros(1, 4, 8, 8))
    use_channels_last(model)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(p.is_contiguous() for p in (model.position, model[1].weight, model[2].weight))


def test_relative_difference():
    x = torch.tensor([[1.0, -4.0]])
    assert relative_difference(dict(a=[x], b=[]), dict(a=[x], b=[])) == 0
    assert relative_difference(dict(a=[x + 0.5]), dict(a=[x])) == 0.125
    for other in ([x.t()], [x, x], []):
        assert relative_difference(dict(a=other), dict(a=[x])) == math.inf
    assert math.isnan(relative_difference(dict(a=[x * math.nan]), dict(a=[x])))


@pytest.mark.slow
class TestCompile:
    def test_agrees(self, toy_teacher, images):
        """Sizes and the early end may vary."""
        teacher = toy_teacher_with(toy_teacher, compile=True)
        sizes = [images, images[:, :, :, :16]]
        expected = [features_of(teacher, size) for size in sizes]
        optimize(teacher, images)
        for size, features in zip(sizes, expected):
            assert relative_difference(features_of(teacher, size), features) < 1e-5


@pytest.mark.parametrize(
    ('switch', 'message'),
    [
        (dict(fold_bn='yes'), "teacher.fold_bn must be True or False, got 'yes'"),
        (dict(channels_last=1), 'teacher.channels_last must be True or False, got 1'),
        (dict(compile=None), 'teacher.compile must be True or False, got None'),
        (
            dict(precision='bfp16'),
            "teacher.precision must be None, 'fp32', .*'bfp16'",
        ),
        (dict(precision=16), 'teacher.precision must be .* got 16'),
        (dict(fold_bm=True), "teacher: unknown key 'fold_bm'; did you mean 'fold_bn'"),
    ],
)
def test_wrong_values(toy_config, switch, message):
    toy_config['teacher'].update(switch)
    with pytest.raises(ConfigError, match=message):
        MODELS.build(toy_config)


# Config, paths, side of the images, and how many batch norms stay.
HOSTS = dict(
    retinanet=('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', ['neck'], 64, 0),
    # A convolution that levels share, with a batch norm for each.
    rtmdet=(
        'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
        ['neck', 'bbox_head.rtm_cls.0', 'bbox_head.rtm_cls.2'],
        64,
        12,
    ),
    # Those of the heads stay.
    pspnet=(
        'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
        ['backbone[2:]', 'decode_head.conv_seg'],
        64,
        6,
    ),
    mobilenet_v2=(
        'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
        ['backbone', 'head.fc'],
        64,
        0,
    ),
    resnet=('mmpretrain::resnet/resnet18_8xb32_in1k.py', ['backbone', 'head.fc'], 64, 0),
    # No batch norm at all.
    swin=(
        'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
        ['backbone', 'head.fc'],
        224,
        0,
    ),
)


def host_teacher(config, paths, **switches):
    library = config.partition('::')[0]
    pytest.importorskip(library)
    torch.manual_seed(0)
    teacher = FrozenTeacher(config, 'random', **switches)
    for name, module in teacher.model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if name.endswith('conv_offset'):
            # Zero at first: offsets that do not depend on the map.
            module.weight.data.normal_(0, 0.02)
    teacher.prepare(OWNER, paths, find_student_input(teacher.model))
    return teacher


def remaining_norms(model):
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


@pytest.mark.slow
@pytest.mark.parametrize('precision', [None, 'bf16'])
@pytest.mark.parametrize('name', HOSTS)
def test_hosts(name, precision):
    config, paths, side, remaining = HOSTS[name]
    teacher = host_teacher(config, paths, precision=precision)
    images, samples = torch.randn(2, 3, side, side), blank_batch((3, side, side))[1] * 2
    expected = features_of(teacher, images, samples)
    optimize(teacher, torch.randn(2, 3, side, side), samples)
    features = features_of(teacher, images, samples)
    assert relative_difference(features, expected) < TOLERANCES[precision]
    assert remaining_norms(teacher.model) == remaining


PREDICTIONS = dict(
    retinanet=lambda sample: sample.pred_instances.scores,
    pspnet=lambda sample: sample.seg_logits.data,
    resnet=lambda sample: sample.pred_score,
)


@pytest.mark.slow
@pytest.mark.parametrize('precision', [None, 'bf16'])
@pytest.mark.parametrize('name', PREDICTIONS)
def test_predictions_of_hosts(name, precision):
    """Optimized for its features, the teacher predicts what it did, up to its precision."""
    config, paths, side, _ = HOSTS[name]
    teacher = host_teacher(config, paths, precision=precision)
    if name == 'retinanet':
        teacher.model.bbox_head.test_cfg['score_thr'] = 0.0
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)

    def data():
        samples = [blank_batch((3, side, side))[1][0] for _ in images]
        return dict(inputs=list(images), data_samples=None if name == 'resnet' else samples)

    expected = [PREDICTIONS[name](sample) for sample in teacher.model.test_step(data())]
    prepared = teacher.model.data_preprocessor(data(), False)
    features_of(teacher, prepared['inputs'], prepared['data_samples'])
    samples = blank_batch((3, side, side))[1] * 2
    optimize(teacher, torch.randn(2, 3, side, side), samples)
    predicted = [PREDICTIONS[name](sample) for sample in teacher.predict(**prepared)]
    found, expected = dict(all=predicted), dict(all=expected)
    assert 0 <= relative_difference(found, expected) < TOLERANCES[precision]


@pytest.mark.slow
@pytest.mark.parametrize('precision', [None, 'bf16'])
@pytest.mark.parametrize(
    'config',
    [
        'mmdet::faster_rcnn/faster-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco.py',
        # Deformable convolutions, which want contiguous maps as RoIAlign does.
        'mmdet::dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py',
    ],
)
def test_roi_head_on_the_student_s_boxes(config, precision):
    """mmcv's operations read channels-last maps as if they were not; they get contiguous ones.

    They have no bfloat16 on a CPU and get float32.
    """
    scores = 'roi_head.bbox_head.fc_cls'
    teacher = host_teacher(config, ['neck', scores], precision=precision)
    images, samples = torch.randn(1, 3, 64, 64), blank_batch((3, 64, 64))[1]
    boxes = torch.tensor([[0.0, 4, 4, 30, 40], [0, 0, 0, 64, 64], [0, 20, 8, 60, 60]])
    teacher.capture, capture = FeatureCapture(teacher.model, ['neck'], 'teacher'), teacher.capture
    features_of(teacher, images, samples)
    teacher.capture = capture
    fed = 'roi_head.bbox_roi_extractor:input[rois]', [boxes]
    expected = features_of(teacher, images, samples, fed)
    assert len(expected[scores][0]) == 3
    optimize(teacher, torch.randn(1, 3, 64, 64), samples, fed)
    features = features_of(teacher, images, samples, fed)
    assert all(t.is_contiguous(memory_format=torch.channels_last) for t in features['neck'])
    assert relative_difference(features, expected) < TOLERANCES[precision]


@pytest.mark.parametrize('side', [96, 224])
def test_is_tried_on_small_images_where_the_teacher_takes_them(toy_config, monkeypatch, side):
    seen = []

    def picky_extract_feat(self, inputs):
        seen.append(tuple(inputs.shape))
        if inputs.shape[-1] < side:
            raise ValueError('too small')
        return self.neck(self.backbone(inputs))

    monkeypatch.setattr(ToyModel, 'extract_feat', picky_extract_feat)
    distiller = MODELS.build(toy_config)
    assert seen[-1] == (2, 3, side, side)
    assert 'BatchNorm2d' not in dtypes(distiller.teacher.model)
