"""Losses and the log, channels, gradients, names in checkpoints, and wrong configs."""

import copy
import random

import numpy as np
import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmengine.runner import save_checkpoint
from torch import nn

from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.checkpoints.weights import weights_of
from mmdiffkd.diffusion import HeadOutput
from mmdiffkd.errors import ConfigError

from ..conftest import ToyModel


def test_log(toy_distiller, images):
    losses = toy_distiller(images, mode='loss')
    assert list(losses) == [
        'loss_task',
        'loss_kd_fpn',
        'loss_diff_fpn',
        'loss_ae_fpn',
        'dist_before_fpn',
        'dist_after_fpn',
        'gamma_fpn',
        'loss_kd_stem',
        'dist_before_stem',
        'dist_after_stem',
        'loss_kd_logits',
        'dist_before_logits',
        'dist_after_logits',
    ]
    total, _ = toy_distiller.parse_losses(losses)
    torch.testing.assert_close(total, sum(v for k, v in losses.items() if k.startswith('loss')))
    assert not any(v.requires_grad for k, v in losses.items() if not k.startswith('loss'))


def test_log_shows_the_sum_also_if_the_student_s_loss_is_called_loss(toy_distiller, images):
    """As mmpretrain's classifiers call theirs."""
    losses = toy_distiller(images, mode='loss')
    expected, _ = toy_distiller.parse_losses(losses)
    task = losses.pop('loss_task')
    total, log = toy_distiller.parse_losses(dict(losses, loss=task))
    torch.testing.assert_close(total, expected)
    assert log['loss'] == total and log['loss_task'] == task
    assert next(iter(log)) == 'loss'


def test_loss_is_summed_over_maps_and_weighted(toy_config, images):
    pair = toy_config['pairs']['logits']
    pair['loss'] = dict(type='MSELoss', loss_weight=3.0)
    toy_config['pairs'] = dict(logits=pair)
    distiller = MODELS.build(toy_config).eval()
    teacher = distiller.teacher.model(images)
    student = distiller.student(images)
    expected = 3 * sum((s - t).square().mean() for s, t in zip(student, teacher))
    torch.testing.assert_close(distiller(images, mode='loss')['loss_kd_logits'], expected)


def test_student_s_losses_are_untouched(toy_distiller, images):
    toy_distiller.eval()
    expected = toy_distiller.student(images, mode='loss')['loss_task']
    assert torch.equal(toy_distiller(images, mode='loss')['loss_task'], expected)


def test_one_head_per_map_with_the_right_channels(toy_distiller):
    """No channel count stands in the config."""
    heads = toy_distiller.pairs['fpn'].heads
    assert len(heads) == 2
    for head in heads:
        assert head.align.weight.shape[:2] == (6, 8)
        assert head.autoencoder.decoder.weight.shape[:2] == (12, 6)


def test_building_disturbs_nothing(toy_config):
    """Weights, BN statistics, modes and random states are as without a dry forward."""
    torch.manual_seed(0)
    student = MODELS.build(toy_config['student'])
    teacher = MODELS.build(toy_config['teacher']['config'])
    plain = student.state_dict(), teacher.state_dict()
    del teacher
    torch.manual_seed(0)
    # Folding makes new weights on purpose.
    toy_config['teacher'].update(checkpoint='random', fold_bn=False)
    toy_config['pairs'] = dict(logits=toy_config['pairs']['logits'])
    others = random.getstate(), str(np.random.get_state())
    distiller = MODELS.build(toy_config)
    after_build = torch.get_rng_state()
    assert (random.getstate(), str(np.random.get_state())) == others
    for ours, expected in zip((distiller.student, distiller.teacher.model), plain):
        for key, value in ours.state_dict().items():
            assert torch.equal(value, expected[key]), key
    assert all(module.training for module in distiller.student.modules())
    torch.manual_seed(0)
    MODELS.build(toy_config['student'])
    MODELS.build(toy_config['teacher']['config'])
    assert torch.equal(after_build, torch.get_rng_state())


def test_dry_forward_keeps_no_graph_and_no_statistics(toy_config, monkeypatch):
    """Nor do the pairs, which are tried once on what it yielded."""
    grad_enabled, extract_feat = [], MODELS.get('ToyModel').extract_feat

    def watched(self, inputs):
        grad_enabled.append(torch.is_grad_enabled())
        return extract_feat(self, inputs)

    monkeypatch.setattr(MODELS.get('ToyModel'), 'extract_feat', watched)
    distiller = MODELS.build(toy_config)
    assert len(grad_enabled) >= 2 and not any(grad_enabled)
    for module in distiller.modules():
        assert module.training
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.num_batches_tracked == 0
            assert (module.running_mean == 0).all() and (module.running_var == 1).all()
    assert all(parameter.grad is None for parameter in distiller.parameters())


def test_caller_s_config_is_not_changed(toy_config):
    before = copy.deepcopy(toy_config)
    MODELS.build(toy_config)
    assert toy_config == before


def test_data_preprocessor_is_the_student_s(toy_config):
    given = dict(type='ImgDataPreprocessor', mean=[1.0] * 3, std=[2.0] * 3)
    distiller = MODELS.build(dict(toy_config, data_preprocessor=given))
    assert distiller.data_preprocessor is distiller.student.data_preprocessor
    assert distiller.data_preprocessor.mean.flatten().tolist() == [1.0] * 3
    assert sum(m is distiller.data_preprocessor for m in distiller.modules()) == 1


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('size', [(8, 8), (17, 40)])
def test_batch_and_image_sizes(toy_distiller, batch, size):
    loss, _ = toy_distiller.parse_losses(toy_distiller(torch.randn(batch, 3, *size), mode='loss'))
    loss.backward()
    assert loss.isfinite()


def test_maps_of_other_sizes_are_resized(toy_config, images):
    toy_config['pairs'] = dict(
        mixed=dict(
            student='neck[0]',
            teacher='neck[1]',
            head=dict(type='DiffKDHead'),
            loss=dict(type='MSELoss'),
        )
    )
    distiller = MODELS.build(toy_config)
    seen = []
    distiller.pairs['mixed'].loss.register_forward_hook(
        lambda _, args, output: seen.append([tuple(x.shape) for x in args])
    )
    distiller(images, mode='loss')['loss_kd_mixed'].backward()
    assert seen == [[(2, 12, 4, 6), (2, 12, 4, 6)]]


class TestCheckpoint:
    def test_copies_have_the_same_names(self, toy_distiller):
        clone = copy.deepcopy(toy_distiller)
        assert list(clone.state_dict()) == list(toy_distiller.state_dict())
        clone.load_state_dict(toy_distiller.state_dict(), strict=True)

    def test_below_a_prefix(self, toy_distiller):
        wrapper = torch.nn.Sequential(toy_distiller)
        state = wrapper.state_dict()
        assert '0.backbone.0.weight' in state and not [k for k in state if 'student' in k]
        wrapper.load_state_dict(state, strict=True)

    def test_module_versions_are_kept(self, toy_distiller, tmp_path):
        metadata = toy_distiller.state_dict()._metadata
        assert metadata['backbone.1'] == toy_distiller.student.state_dict()._metadata['backbone.1']

    def test_export(self, toy_distiller, toy_config, tmp_path):
        path = tmp_path / 'epoch_1.pth'
        save_checkpoint(dict(meta={}, state_dict=toy_distiller.state_dict()), str(path))
        MODELS.build(toy_config['student']).load_state_dict(
            weights_of(load_file(path)), strict=True
        )


class TestInheriting:
    def test_weights_are_copied_after_initialisation(self, toy_config):
        toy_config['student']['width'] = 12
        toy_config['init_from_teacher'] = ['neck', 'head.cls']
        distiller = MODELS.build(toy_config)
        distiller.init_weights()
        teacher = distiller.teacher.model.state_dict()
        for key, value in distiller.student.state_dict().items():
            if key.startswith(('neck', 'head.cls')):
                assert torch.equal(value, teacher[key]), key
        assert not torch.equal(distiller.student.backbone[0].weight, teacher['backbone.0.weight'])

    def test_from_another_name(self, toy_config):
        toy_config['student']['width'] = 12
        toy_config['init_from_teacher'] = {'neck.convs.0': 'neck.convs.1'}
        distiller = MODELS.build(toy_config)
        distiller.init_weights()
        expected = distiller.teacher.model.neck.convs[1].weight
        assert torch.equal(distiller.student.neck.convs[0].weight, expected)

    @pytest.mark.parametrize(
        ('names', 'message'),
        [
            (['neck'], "'neck' of the teacher differ in 4 weights: convs.0.bias"),
            (['nck'], "the student has no module 'nck'"),
            ('neck', "must be a list or a dict, got 'neck'"),
            (5, 'must be a list or a dict, got 5'),
            (['backbone.3'], "'backbone.3' has no weights"),
        ],
    )
    def test_errors(self, toy_config, names, message):
        toy_config['init_from_teacher'] = names
        with pytest.raises(ValueError, match='init_from_teacher.*' + message):
            MODELS.build(toy_config)


def change(config, path, value):
    *parents, last = path
    for key in parents:
        config = config[key]
    if value is KeyError:
        del config[last]
    else:
        config[last] = value


FPN = ('pairs', 'fpn')


class InitialisedHead(BaseModule):
    """A head of the user whose config says how its weights start."""

    def __init__(self, student_channels, teacher_channels, init_cfg=None):
        super().__init__(init_cfg)
        self.align = nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, student, teacher):
        refined = self.align(student)
        return HeadOutput(refined, teacher, refined.detach())


def test_heads_are_initialised_as_configured(toy_config):
    init = dict(type='Constant', val=7, layer='Conv2d')
    toy_config['pairs']['fpn']['head'] = dict(type=InitialisedHead, init_cfg=init)
    distiller = MODELS.build(toy_config)
    distiller.init_weights()
    assert (distiller.pairs['fpn'].heads[0].align.weight == 7).all()


def test_host_hooks_reach_the_student(toy_distiller):
    """mmdet's YOLOXModeSwitchHook sets `model.bbox_head.use_l1`."""
    assert toy_distiller.head is toy_distiller.student.head
    assert not hasattr(toy_distiller, 'nothing_of_the_kind')
    assert copy.deepcopy(toy_distiller).head is not toy_distiller.head
    # Hooks tell a model its epoch, mmpretrain's SwitchRecipeHook gives it another loss module.
    student, states = toy_distiller.student, {*toy_distiller.state_dict()}
    student.epoch, student.loss_module = 0, torch.nn.MSELoss()
    toy_distiller.epoch, toy_distiller.never_heard_of = 1, 2
    toy_distiller.loss_module = torch.nn.L1Loss()
    toy_distiller.data_preprocessor = torch.nn.Identity()
    assert (student.epoch, student.never_heard_of) == (1, 2)
    toy_distiller.class_weights = torch.ones(2)
    assert student.class_weights is toy_distiller.class_weights
    assert isinstance(student.loss_module, torch.nn.L1Loss)
    assert isinstance(student.data_preprocessor, torch.nn.Identity)
    toy_distiller.train(False)
    toy_distiller.own = torch.nn.Linear(1, 1)
    assert not student.training and not hasattr(student, 'own')
    assert {*toy_distiller.state_dict()} - states == {'distill.own.weight', 'distill.own.bias'}


def test_student_with_a_teacher_of_its_own_is_refused(toy_config, monkeypatch):
    """Hooks of semi-supervised models would take the distiller's for it."""
    monkeypatch.setattr(ToyModel, 'teacher', None, raising=False)
    with pytest.raises(ConfigError, match="student: ToyModel has a module 'teacher' of its own"):
        MODELS.build(toy_config)


def test_loss_of_the_student_with_the_name_of_a_pair_s_is_refused(toy_distiller, images):
    loss = toy_distiller.student.forward
    toy_distiller.student.forward = lambda *args, mode: dict(
        loss(*args, mode=mode), loss_kd_stem=torch.zeros(())
    )
    with pytest.raises(ConfigError, match="pairs.stem: the student has a loss 'loss_kd_stem'"):
        toy_distiller(images, mode='loss')


def test_pair_without_gradient_is_refused(toy_distiller, images):
    toy_distiller.student.backbone.requires_grad_(False)
    toy_distiller.student.neck.requires_grad_(False)
    with pytest.raises(
        (RuntimeError, ValueError), match="pairs.fpn: no gradient .* student path 'neck'"
    ):
        toy_distiller(images, mode='loss')


def test_other_number_of_maps_than_when_it_was_built_is_refused(toy_distiller, images):
    """A module that yields more in training than in evaluation."""
    levels = toy_distiller.student.neck.forward
    toy_distiller.student.neck.forward = lambda x: (*levels(x), x)
    message = 'pairs.fpn: 3 student and 2 teacher maps were captured, 2 were seen when'
    with pytest.raises((RuntimeError, ValueError), match=message):
        toy_distiller(images, mode='loss')


def test_other_number_of_entries_than_images_is_refused(toy_distiller, images):
    """What runs on proposals sees other ones in student and teacher."""
    toy_distiller.student.neck.forward = lambda x: (x[:1].repeat(5, 1, 1, 1),) * 2
    with pytest.raises(ValueError, match='pairs.fpn: .* 5 rows for 2 images'):
        toy_distiller(images, mode='loss')


def test_losses_of_other_libraries_get_float32(toy_config, images):
    """Also without a head."""
    toy_config['pairs'] = dict(logits=toy_config['pairs']['logits'])
    distiller = MODELS.build(toy_config)
    seen = []
    distiller.pairs['logits'].loss.register_forward_hook(
        lambda _, args, output: seen.extend(x.dtype for x in args)
    )
    with torch.autocast('cpu', dtype=torch.bfloat16):
        distiller(images, mode='loss')
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        (('teacher', 'checkpoint'), KeyError, "teacher: 'checkpoint' is required"),
        (('teacher', 'checkpoint'), None, "teacher: 'checkpoint' is required"),
        (('teacher', 'checkpont'), 'x', "teacher: unknown key 'checkpont'; did you mean 'check"),
        (('teacher', 'config'), 'nowhere.py', "teacher.config: no file 'nowhere.py'"),
        (('teacher', 'config'), 'mmdet::nowhere.py', "mmdet has no config 'nowhere.py'"),
        (('teacher', 'config'), 'nolib::a.py', 'needs nolib, which is not installed'),
        (('teacher', 'config'), dict(width=3), "teacher.config: a model dict needs a 'type'"),
        (
            ('teacher', 'config', 'type'),
            'TooModel',
            "teacher.config: no 'TooModel' in the registry",
        ),
        (('student', 'widht'), 3, "student: cannot build 'ToyModel'.*widht"),
        (('pairs',), {}, 'pairs must be a dict with at least one pair'),
        ((*FPN, 'wieght'), 1.0, "pairs.fpn: unknown key 'wieght'; did you mean 'weight'"),
        ((*FPN, 'weight'), -1, 'pairs.fpn.weight must be a finite number from 0, got -1'),
        ((*FPN, 'weight'), '2', "pairs.fpn.weight must be a finite number from 0, got '2'"),
        ((*FPN, 'loss'), KeyError, "pairs.fpn: 'loss' is required"),
        ((*FPN, 'student'), 'nekc', "student path 'nekc': .* the closest are .*'neck'"),
        ((*FPN, 'teacher'), 'nekc', "teacher path 'nekc': .* the closest are .*'neck'"),
        ((*FPN, 'student'), 'neck[0]', r"pairs.fpn: student path 'neck\[0\]' yields 1 maps, .* 2"),
        ((*FPN, 'student'), 'neck[', 'is not of the form'),
        ((*FPN, 'head', 'nmu_steps'), 5, "pairs.fpn.head .*'nmu_steps'; did you mean 'num_steps'"),
        ((*FPN, 'head', 'num_steps'), 0, 'pairs.fpn.head .DiffKDHead.: num_steps must be'),
        ((*FPN, 'head'), dict(type='DifKDHead'), "no 'DifKDHead' in the registry; did you mean 'D"),
        ((*FPN, 'head'), 'DiffKDHead', "pairs.fpn.head must be a dict with a 'type'"),
        ((*FPN, 'head'), None, r'pairs.fpn: without a head .* \[\(8, 12\), \(8, 12\)\]'),
        ((*FPN, 'loss', 'type'), 'MSLoss', "no 'MSLoss' in the registry; did you mean 'MSELoss'"),
        ((*FPN, 'loss', 'weight'), 2, "pairs.fpn.loss .MSELoss.: unknown key 'weight'"),
        (('pairs', 'loss_x'), {}, "'loss_x' cannot name a pair"),
        (('pairs', 'keys'), {}, "'keys' cannot name a pair"),
        (('teacher', 'ignore_keys'), '^neck', 'teacher.ignore_keys must be a list'),
        (('teacher', 'ignore_keys'), ['('], 'teacher.ignore_keys: .* no regular expression'),
        (('student',), None, 'student must be a model dict, a path or a name'),
        ((*FPN, 'student'), ['neck'], 'is not of the form'),
        ((*FPN, 'head', 'reduction'), 0, 'pairs.fpn.head .DiffKDHead.: reduction must be'),
        ((*FPN, 'head', 'kernel_size'), 1, 'pairs.fpn: .* kernel_size=1 is for vectors'),
        (('teacher', 'classes'), 'voc.txt', "teacher.classes must be a list of names, got 'voc"),
        ((*FPN, 'loss', 'loss_weight'), '2', 'loss_weight must be a finite number from 0, got'),
        (('teacher', 'image_size'), (0, 9), 'teacher.image_size must be .* got .0, 9.'),
        ((*FPN, 'head'), dict(type='MSELoss'), 'pairs.fpn: the dry forward .* failed'),
    ],
)
def test_wrong_configs_are_refused_at_build_time(toy_config, path, value, message):
    change(toy_config, path, value)
    with pytest.raises(ValueError, match=message):
        MODELS.build(toy_config)


def test_parameters_have_the_names_of_checkpoints(toy_distiller):
    """The hosts' optimizer constructors decide by names that begin with `backbone.`."""
    names = [name for name, _ in toy_distiller.named_parameters()]
    assert set(names) <= set(toy_distiller.state_dict())
    assert 'backbone.0.weight' in names and 'distill.pairs.fpn.heads.0.align.weight' in names
    assert next(toy_distiller.named_parameters(prefix='module'))[0] == 'module.backbone.0.weight'
    assert len(names) == len(list(toy_distiller.parameters()))


@pytest.mark.parametrize('side', [384, 512])
@pytest.mark.parametrize('role', ['student', 'teacher'])
def test_models_made_for_one_size(toy_config, monkeypatch, role, side):
    extract_feat = MODELS.get('ToyModel').extract_feat
    width = 8 if role == 'student' else 12

    def picky_extract_feat(self, inputs):
        if self.head.cls.in_channels == width:
            assert inputs.shape[-1] == side, f'{inputs.shape[-1]} pixels'
        return extract_feat(self, inputs)

    monkeypatch.setattr(MODELS.get('ToyModel'), 'extract_feat', picky_extract_feat)
    MODELS.build(toy_config)
    side = 100
    with pytest.raises(ValueError, match=f'{role}: the dry forward .* 224x224 .* 224 pixels'):
        MODELS.build(toy_config)


@pytest.mark.parametrize(
    'loss',
    [
        dict(type='MSELoss'),
        dict(type='L1Loss'),
        dict(type='SmoothL1Loss'),
        dict(type='KLDivLoss', use_sigmoid=True),
        dict(type='KLDivLoss', tau=2.0),
        dict(type='DISTLoss'),
    ],
    ids=str,
)
def test_a_step_reads_no_value_and_makes_no_table(toy_config, images, operations, loss):
    """On a GPU either would make the host wait, or copy something to the device."""
    toy_config['pairs']['fpn']['loss'] = loss
    toy_config['pairs']['fpn']['head']['checkpoint'] = True
    distiller = MODELS.build(toy_config)
    with operations:
        total, _ = distiller.parse_losses(distiller(images, mode='loss'))
        total.backward()
    assert 'convolution' in operations.names
    assert not {'_local_scalar_dense', 'nonzero', 'lift_fresh', 'arange'} & set(operations.names)


@pytest.mark.parametrize(
    'samples',
    [None, dict(bboxes_labels=torch.zeros(3, 6), img_metas=[]), torch.zeros(2, 5)],
    ids=['none', 'dict', 'tensor'],
)
def test_data_samples_may_be_anything_that_the_host_has(toy_distiller, images, samples):
    """Batches of mmyolo have a dict or a tensor in the place of a list."""
    seen, loss = [], toy_distiller.student.forward
    toy_distiller.student.forward = lambda inputs, data_samples, mode: (
        seen.append(data_samples) or loss(inputs, data_samples, mode=mode)
    )
    data = toy_distiller.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    total, _ = toy_distiller.parse_losses(toy_distiller(**data, mode='loss'))
    assert total.isfinite() and type(seen[0]) is type(samples)
