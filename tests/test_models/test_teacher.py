"""The teacher stays as it is, has its own weights and runs no further than needed."""

import copy
import gc
import logging
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from mmdiffkd.capture import FeatureCapture
from mmdiffkd.command_line import METHODS
from mmdiffkd.errors import CheckpointError, ConfigError
from mmdiffkd.models import FrozenTeacher
from mmdiffkd.models.hosts import run_for_features
from mmdiffkd.models.input_matching import find_student_input
from mmdiffkd.models.teacher_weights import load_teacher_weights

from .test_teacher_switches import features_of


def bytes_of(model):
    return {key: value.numpy().tobytes() for key, value in model.state_dict().items()}


def step(distiller, images):
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    loss, _ = distiller.parse_losses(distiller(images, mode='loss'))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test_never_trained(toy_distiller, images):
    teacher = toy_distiller.teacher.model
    before = bytes_of(teacher)
    for mode in (True, False, True):
        toy_distiller.train(mode)
        assert not any(module.training for module in teacher.modules())
    student_before = bytes_of(toy_distiller.student)
    for _ in range(3):
        step(toy_distiller, images)
    assert bytes_of(teacher) == before
    assert bytes_of(toy_distiller.student) != student_before
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())


def test_features_are_those_of_eval_mode(toy_distiller, images):
    """The teacher has dropout of 0.5; two forwards agree only without it."""
    first, second = (features_of(toy_distiller.teacher, images)['backbone'] for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert not first[0].requires_grad


def test_never_saved_and_never_optimised(toy_distiller):
    """DDP reduces what is in `parameters` and sends around what is in `buffers`."""
    model = toy_distiller.teacher.model
    teacher = {id(part) for part in (*model.parameters(), *model.buffers(), *model.modules())}
    ours = (*toy_distiller.parameters(), *toy_distiller.buffers(), *toy_distiller.modules())
    assert teacher.isdisjoint(map(id, ours))
    assert not toy_distiller._buffers and not toy_distiller._parameters
    optimizer = build_optim_wrapper(toy_distiller, dict(optimizer=dict(type='SGD', lr=0.1)))
    optimised = [id(p) for group in optimizer.param_groups for p in group['params']]
    assert sorted(optimised) == sorted(map(id, toy_distiller.parameters()))
    shapes = [tuple(p.shape) for p in toy_distiller.teacher.model.backbone[0].parameters()]
    assert shapes == [(12, 3, 3, 3), (12,)]
    student = toy_distiller.state_dict()
    assert tuple(student['backbone.0.weight'].shape) == (8, 3, 3, 3)
    assert not [key for key in student if 'teacher' in key]


def test_moves_and_casts_with_the_distiller(toy_distiller):
    dtype = lambda: next(toy_distiller.teacher.model.parameters()).dtype  # noqa: E731
    toy_distiller.double()
    assert dtype() == torch.float64
    toy_distiller.half()
    assert dtype() == torch.float16
    toy_distiller.to(torch.float32)
    assert dtype() == torch.float32
    toy_distiller.to('meta')
    assert next(toy_distiller.teacher.model.parameters()).is_meta


def test_ema_shares_the_teacher(toy_distiller, images):
    ema = ExponentialMovingAverage(toy_distiller, momentum=0.5)
    assert ema.module.teacher is toy_distiller.teacher
    assert ema.module.student is not toy_distiller.student
    assert not [key for key in ema.state_dict() if 'teacher' in key]
    step(toy_distiller, images)
    ema.update_parameters(toy_distiller)
    with torch.no_grad():
        ema.module(images, mode='loss')


def test_a_copy_that_moves_leaves_the_teacher(toy_config):
    """As an average that is kept on the CPU; the teacher follows a copy that outlives the first."""
    toy_distiller = MODELS.build(toy_config)
    teacher = toy_distiller.teacher.model
    clone = copy.deepcopy(toy_distiller)
    clone.double()
    assert {p.dtype for p in teacher.parameters()} == {torch.float32}
    toy_distiller.half()
    assert {p.dtype for p in teacher.parameters()} == {torch.float16}
    del toy_distiller
    gc.collect()
    clone.double()
    assert {p.dtype for p in teacher.parameters()} == {torch.float64}


def test_an_error_of_the_teacher_is_told_as_it_is(toy_distiller, images):
    def fail(x):
        raise RuntimeError('CUDA out of memory')

    toy_distiller.teacher.model.backbone.forward = fail
    with pytest.raises((RuntimeError, ValueError), match='^CUDA out of memory$'):
        toy_distiller(images, mode='loss')


def test_copy_captures_from_its_own_student(toy_distiller, images):
    clone = copy.deepcopy(toy_distiller)
    clone.student.neck.convs[0].weight.data.zero_()
    clone(images, mode='loss')['loss_kd_fpn'].backward()
    assert all(p.grad is None for p in toy_distiller.parameters())
    assert clone.student.backbone[0].weight.grad is not None


@pytest.mark.parametrize(
    ('paths', 'modes'),
    [
        (['neck'], ['extract_feat']),
        (['backbone.1', 'neck'], ['extract_feat']),
        (['neck', 'head.cls'], ['tensor', 'extract_feat']),
    ],
)
def test_runs_no_further_than_needed(toy_teacher, images, paths, modes):
    teacher = FrozenTeacher(**toy_teacher)
    teacher.prepare(nn.Module(), paths, find_student_input(teacher.model))
    features_of(teacher, images)
    assert teacher.model.modes == modes


def test_never_in_loss_mode(toy_distiller, images):
    toy_distiller(images, mode='loss')
    assert 'loss' not in toy_distiller.teacher.model.modes
    assert 'loss' in toy_distiller.student.modes


@pytest.mark.parametrize('mode', ['predict', 'tensor'])
def test_is_not_run_at_inference(toy_distiller, images, mode):
    toy_distiller.teacher.model.modes.clear()
    expected = toy_distiller.eval().student(images, mode=mode)
    for ours, theirs in zip(toy_distiller(images, mode=mode), expected):
        assert torch.equal(ours, theirs)
    assert toy_distiller.teacher.model.modes == []


def test_weights_are_the_checkpoint_s(toy_teacher):
    saved = torch.load(toy_teacher['checkpoint'])['state_dict']
    loaded = FrozenTeacher(**toy_teacher).model.state_dict()
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)


@pytest.mark.parametrize('kind', ['dict', 'path', 'name'])
def test_config_is_a_dict_a_path_or_a_name(kind, tmp_path):
    if kind == 'name':
        pytest.importorskip('mmpretrain')
        config = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
        assert type(FrozenTeacher(config, 'random').model).__name__ == 'ImageClassifier'
        return
    config = dict(type='ToyModel', width=5)
    if kind == 'path':
        path = tmp_path / 'teacher.py'
        path.write_text(f'model = {config}')
        config = str(path)
    assert FrozenTeacher(config, 'random').model.backbone[0].out_channels == 5


@pytest.mark.parametrize('checkpoint', ['https://host/model.pth', 'zoo'])
def test_weights_are_fetched(toy_teacher, monkeypatch, checkpoint):
    """From a URL, or from the one that the library publishes for the config."""
    config, fetched = toy_teacher['config'], []
    if checkpoint == 'zoo':
        config = 'library::toy.py'
        published = Config(dict(model=toy_teacher['config'], model_path='https://zoo/model.pth'))
        for module in ('configs', 'teacher_weights'):
            monkeypatch.setattr(f'mmdiffkd.models.{module}.load_config', lambda *_, **__: published)

    def fetch(url):
        fetched.append(url)
        return toy_teacher['checkpoint']

    monkeypatch.setattr('mmdiffkd.models.teacher_weights.fetch', fetch)
    loaded = FrozenTeacher(config, checkpoint).model.state_dict()
    saved = torch.load(toy_teacher['checkpoint'])['state_dict']
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)
    assert fetched == ['https://zoo/model.pth' if checkpoint == 'zoo' else checkpoint]


def test_a_file_of_the_backbone_alone(toy_teacher, tmp_path):
    """Is for a model that is nothing else, and a plain backbone takes its part of a whole file."""
    saved = torch.load(toy_teacher['checkpoint'])['state_dict']
    own = {k.removeprefix('backbone.'): v for k, v in saved.items() if k.startswith('backbone.')}
    path = tmp_path / 'backbone.pth'
    torch.save(own, path)
    headless = FrozenTeacher(dict(type='HeadlessToyModel', width=12), str(path)).model
    plain = FrozenTeacher(
        dict(type=lambda: MODELS.build(toy_teacher['config']).backbone),
        toy_teacher['checkpoint'],
        prefix='backbone',
    ).model
    for backbone in (headless.backbone, plain):
        assert all(torch.equal(v, own[k]) for k, v in backbone.state_dict().items())
    with pytest.raises(CheckpointError, match='does not fit ToyModel'):
        FrozenTeacher(toy_teacher['config'], str(path))


@MODELS.register_module()
class HeadlessToyModel(MODELS.get('ToyModel')):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        del self.neck, self.head


def test_a_distiller_s_checkpoint_can_be_a_teacher(toy_distiller, tmp_path):
    """The student of one run teaches the next."""
    path = tmp_path / 'distilled.pth'
    torch.save(dict(state_dict=toy_distiller.state_dict()), path)
    teacher = FrozenTeacher(dict(type='ToyModel', width=8), str(path))
    expected = toy_distiller.student.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in teacher.model.state_dict().items())


def test_random_warns(toy_teacher, monkeypatch):
    messages = []
    monkeypatch.setattr(
        'mmdiffkd.models.teacher_weights.print_log',
        lambda text, *level: messages.append((text, level)),
    )
    FrozenTeacher(toy_teacher['config'], 'random')
    ((text, (_, level)),) = messages
    assert 'random weights' in text and level == logging.WARNING


class TestWrongWeights:
    def refused(self, toy_teacher, message, **changes):
        with pytest.raises((CheckpointError, ConfigError)) as caught:
            FrozenTeacher(**{**toy_teacher, **changes})
        assert 'teacher.' in str(caught.value)
        assert message in str(caught.value)
        return str(caught.value)

    def test_no_such_file(self, toy_teacher):
        self.refused(toy_teacher, "no file 'nowhere.pth'", checkpoint='nowhere.pth')

    def test_other_architecture(self, toy_teacher):
        config = dict(type='ToyModel', width=12, levels=1)
        message = self.refused(toy_teacher, '2 unexpected: neck.convs.1', config=config)
        assert 'another architecture' in message

    def test_missing_keys(self, toy_teacher):
        config = dict(type='ToyModel', width=12, levels=3)
        self.refused(toy_teacher, '2 missing: neck.convs.2.bias', config=config)

    def test_other_class_count(self, toy_teacher):
        config = dict(type='ToyModel', width=12, num_classes=5)
        message = self.refused(toy_teacher, 'another number of classes', config=config)
        assert 'head.cls' in message

    def test_known_exceptions(self, toy_teacher):
        """Keys of another shape, missing and unexpected ones; the others are still loaded."""
        checkpoint = toy_teacher['checkpoint']
        saved = torch.load(checkpoint)['state_dict']
        for changes, pattern in (
            (dict(num_classes=5), '^head.cls'),
            (dict(levels=3), r'convs\.2'),
            (dict(levels=1), r'convs\.1'),
        ):
            config = dict(type='ToyModel', width=12, **changes)
            loaded = FrozenTeacher(config, checkpoint, ignore_keys=[pattern]).model.state_dict()
            assert torch.equal(loaded['neck.convs.0.bias'], saved['neck.convs.0.bias'])
            self.refused(toy_teacher, 'does not fit', config=config, ignore_keys=['^backbone'])

    def test_weights_below_other_names(self, toy_teacher, tmp_path):
        """The error says the prefix with which they fit."""
        saved = torch.load(toy_teacher['checkpoint'])['state_dict']
        path = tmp_path / 'wrapped.pth'
        other = dict(toy_teacher, checkpoint=str(path))
        for prefix, content in (
            ('architecture', {f'architecture.{key}': value for key, value in saved.items()}),
            ('net', dict(net=saved, epoch=3)),
            ('teacher.module', dict(teacher={f'module.{k}': v for k, v in saved.items()})),
        ):
            torch.save(content, path)
            self.refused(other, f'prefix={prefix!r}')
            prefix = prefix.removesuffix('.module')
            loaded = FrozenTeacher(**other, prefix=prefix).model.state_dict()
            assert all(torch.equal(saved[key], loaded[key]) for key in saved)

    def test_no_checkpoint_at_all(self, toy_teacher, tmp_path):
        path = tmp_path / 'note.txt'
        path.write_text('hello')
        self.refused(toy_teacher, 'cannot be read', checkpoint=str(path))

    def test_file_without_weights(self, toy_teacher, tmp_path):
        path = tmp_path / 'empty.pth'
        torch.save(dict(state_dict={}), path)
        self.refused(toy_teacher, 'holds no weights', checkpoint=str(path))

    def test_zoo_needs_a_library_s_config(self, toy_teacher):
        self.refused(toy_teacher, 'names a library', checkpoint='zoo')

    def test_zoo_without_a_published_weight(self, toy_teacher, monkeypatch):
        without = Config(dict(model=toy_teacher['config'], model_path=None))
        for module in ('configs', 'teacher_weights'):
            monkeypatch.setattr(f'mmdiffkd.models.{module}.load_config', lambda *_, **__: without)
        message = "no weight is published for 'library::toy.py'"
        self.refused(toy_teacher, message, config='library::toy.py', checkpoint='zoo')

    def test_checkpoint_of_a_wrong_type(self, toy_teacher):
        self.refused(toy_teacher, 'must be a path', checkpoint=3)


@pytest.mark.slow
def test_zoo_weights_of_the_shipped_configs(monkeypatch):
    """Each teacher of the configs has a published weight; what would be fetched is looked at."""
    for host in ('mmdet', 'mmseg', 'mmpretrain'):
        pytest.importorskip(host)
    configs = sorted((Path(__file__).parents[2] / 'configs').glob('*/*.py'))
    configs = [path for path in configs if path.parent.name in METHODS]
    # Nobody publishes CIFAR-100 teachers; a config trains each.
    trained = [path for path in configs if path.stem.endswith('_cifar100')]
    assert len(trained) >= 6 and len(configs) - len(trained) >= 18
    published = set()
    for path in configs:
        teacher = Config.fromfile(path).model.teacher
        if path in trained:
            name = Path(teacher.config).stem
            assert teacher.checkpoint == f'work_dirs/{name}/epoch_240.pth'
            assert Config.fromfile(teacher.config).train_cfg.max_epochs == 240
            continue
        assert teacher.checkpoint == 'zoo'
        if isinstance(teacher.config, str):
            published.add(teacher.config)
        else:
            timm = pytest.importorskip('timm')
            assert timm.models.is_model_pretrained(teacher.config.name.removeprefix('timm::'))
    for config in published:
        fetched = []
        monkeypatch.setattr('mmdiffkd.models.teacher_weights.fetch', fetched.append)
        with pytest.raises(TypeError):  # nothing was fetched
            load_teacher_weights(None, config, 'zoo')
        assert fetched[0].startswith('https://') and fetched[0].endswith('.pth'), config


def test_segmentor_s_head_that_needs_the_samples():
    """mmseg's `mode='tensor'` does not hand them on (Mask2Former)."""

    class Head(nn.Module):
        def forward(self, x, batch_data_samples):
            self.samples = batch_data_samples

    model = MODELS.build(dict(type='ToyModel'))
    model.decode_head = Head()
    run_for_features(model, ['decode_head'], torch.zeros(1, 3, 8, 8), ['sample'])
    assert model.decode_head.samples == ['sample']
    assert model.modes == ['extract_feat']


@pytest.mark.parametrize('several', [False, True])
def test_segmentor_s_auxiliary_head(several):
    """mmseg runs it for its losses alone; backbone and decode head still run once."""

    class Head(nn.Module):
        def forward(self, levels):
            return levels[-1]

    model = MODELS.build(dict(type='ToyModel'))
    model.decode_head = Head()
    heads = nn.ModuleList(Head() for _ in range(2))
    model.auxiliary_head = heads if several else heads[0]
    paths = ['auxiliary_head' + '.0' * several, 'decode_head', 'backbone']
    with FeatureCapture(model, paths, role='teacher') as features:
        run_for_features(model, paths, torch.zeros(1, 3, 8, 8))
    assert [len(features[path]) for path in paths] == [1, 1, 1]
