"""Pairs that are switched off, and the weight of those that are on."""

import copy

import pytest
import torch
from mmengine.registry import MODELS

from mmdiffkd.models import FeatureCapture
from tests.test_models.test_teacher_inputs import config as two_stage_config  # noqa: F401

PAIRS = ('fpn', 'stem', 'logits')


def only(distiller, *active):
    for name, pair in distiller.pairs.items():
        pair.active = name in active
    distiller.teacher.model.modes.clear()
    return distiller


def total(distiller, images):
    return distiller.parse_losses(distiller(images, mode='loss'))[0]


def test_without_an_active_pair_it_is_the_student(toy_distiller, images, operations):
    """The teacher and the captures do not run, batch norms of the heads see nothing."""
    only(toy_distiller)
    before = {name: value.clone() for name, value in toy_distiller.pairs.state_dict().items()}
    with operations:
        alone = toy_distiller.student(images, mode='loss')
    number = len(operations.names)
    with operations:
        losses = toy_distiller(images, mode='loss')
    assert toy_distiller.teacher.model.modes == []
    idle = {name: value for name, value in losses.items() if name != 'loss_task'}
    assert set(idle) == {f'loss_kd_{name}' for name in PAIRS}
    assert all(value == 0 for value in idle.values())
    assert losses['loss_task'] == alone['loss_task']
    assert len(operations.names) - 2 * number < 10
    after = toy_distiller.pairs.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_gradients_are_the_student_s_own(toy_distiller, images):
    only(toy_distiller)
    total(toy_distiller, images).backward()
    assert all(p.grad is None for p in toy_distiller.pairs.parameters())
    gradients = [p.grad.clone() for p in toy_distiller.student.parameters()]
    toy_distiller.zero_grad()
    toy_distiller.student(images, mode='loss')['loss_task'].backward()
    for ours, parameter in zip(gradients, toy_distiller.student.parameters()):
        assert torch.equal(ours, parameter.grad)


def test_every_parameter_is_part_of_the_graph(toy_distiller, images):
    """DDP waits for each of them: their hooks run although there is no gradient."""
    only(toy_distiller, 'logits')
    reached = set()
    for name, parameter in toy_distiller.named_parameters():
        node = parameter.view_as(parameter).grad_fn.next_functions[0][0]
        node.register_hook(lambda *_, name=name: reached.add(name))
        parameter.node = node
    total(toy_distiller, images).backward()
    assert reached == {name for name, _ in toy_distiller.named_parameters()}
    gradients = {name for name, p in toy_distiller.named_parameters() if p.grad is not None}
    assert gradients == {n for n in reached if not n.startswith('distill.')}


@pytest.mark.parametrize(
    ('active', 'mode'),
    [(('fpn',), ['extract_feat']), (('stem',), ['extract_feat']), (PAIRS, None)],
)
def test_teacher_runs_as_far_as_the_active_pairs_need(toy_distiller, images, active, mode):
    only(toy_distiller, *active)
    losses = toy_distiller(images, mode='loss')
    expected = mode or ['tensor', 'extract_feat']
    assert toy_distiller.teacher.model.modes == expected
    assert {name for name in PAIRS if f'dist_after_{name}' in losses} == set(active)
    assert ('loss_diff_fpn' in losses) == ('loss_ae_fpn' in losses) == ('fpn' in active)


def test_teacher_is_left_when_the_active_pairs_have_their_features(toy_distiller, images):
    ran = []
    toy_distiller.teacher.model.neck.register_forward_pre_hook(lambda *_: ran.append('neck'))
    only(toy_distiller, 'stem')(images, mode='loss')
    assert ran == []
    only(toy_distiller, 'stem', 'fpn')(images, mode='loss')
    assert ran == ['neck']


def test_what_is_active_is_as_with_all(toy_distiller, images):
    toy_distiller.eval()
    expected = toy_distiller(images, mode='loss')
    losses = only(toy_distiller, 'stem', 'logits')(images, mode='loss')
    for name in ('loss_task', 'loss_kd_stem', 'loss_kd_logits', 'dist_after_logits'):
        assert torch.equal(losses[name], expected[name]), name


def test_weight_is_a_factor_of_the_distillation_loss_alone(toy_distiller, images):
    def losses():
        torch.manual_seed(3)
        return toy_distiller.eval()(images, mode='loss')

    whole = losses()
    toy_distiller.pairs['fpn'].kd_weight = 0.25
    toy_distiller.pairs['fpn'].weight = 3.0
    changed = losses()
    for name in whole:
        factor = 0.75 if name == 'loss_kd_fpn' else 1
        torch.testing.assert_close(changed[name], factor * whole[name])


def test_weight_in_the_config(toy_config):
    toy_config['pairs']['fpn']['weight'] = 2
    weights = {name: pair.weight for name, pair in MODELS.build(toy_config).pairs.items()}
    assert weights == dict(fpn=2, stem=1.0, logits=1.0)


def test_weight_of_zero_trains_the_diffusion_model(toy_distiller, images):
    toy_distiller.pairs['fpn'].kd_weight = 0.0
    total(toy_distiller, images).backward()
    head = toy_distiller.pairs['fpn'].heads[0]
    assert head.align.weight.grad.count_nonzero() == 0
    assert head.autoencoder.encoder[0].weight.grad.count_nonzero() > 0
    assert any(p.grad.count_nonzero() for p in head.denoiser.parameters())


def test_copies_are_switched_on_their_own(toy_distiller, images):
    average = copy.deepcopy(toy_distiller)
    only(toy_distiller)
    assert all(pair.active for pair in average.pairs.values())
    assert 'gamma_fpn' in average(images, mode='loss')
    assert 'gamma_fpn' not in toy_distiller(images, mode='loss')


class TestTeacherInputs:
    def test_only_another_pair(self, two_stage_config, images):  # noqa: F811
        """Then the teacher gets no input of the student."""
        distiller = MODELS.build(two_stage_config)
        only(distiller, 'fpn')
        distiller.student.boxes = None
        order = []
        for role, model in (('teacher', distiller.teacher.model), ('student', distiller.student)):
            model.backbone.register_forward_hook(lambda *_, role=role: order.append(role))
        losses = distiller(images, mode='loss')
        assert losses['loss_kd_fpn'] > 0 and losses['loss_kd_scores'] == 0
        assert order == ['student', 'teacher']

    def test_inherited_weights_do_not_depend_on_it(self, two_stage_config):  # noqa: F811
        two_stage_config['init_from_teacher'] = ['scores.0']
        two_stage_config['student']['width'] = 12
        distiller = MODELS.build(two_stage_config)
        only(distiller).init_weights()
        expected = distiller.teacher.model.scores[0].weight
        assert torch.equal(distiller.student.scores[0].weight, expected)


def test_subset_of_a_capture(toy_distiller, images):
    model = toy_distiller.student
    capture = FeatureCapture(model, ['backbone', 'neck', 'head.cls'])
    capture.stop_after = {'backbone': 1, 'neck': 2, 'head.cls': 2}
    with capture.subset(['neck']) as features:
        model.modes.clear()
        model(images)
    assert list(features) == ['neck'] and len(features['neck']) == 2
    with capture as features:
        model(images)
    assert list(features) == ['backbone', 'neck', 'head.cls']
    with capture.subset([]) as features:
        assert 'forward' not in vars(model.neck)
    assert features == {}
