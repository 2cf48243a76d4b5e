"""Pairs on what runs on proposals: the teacher's module gets the student's."""

import copy

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from tests.conftest import ToyModel


class Regions(nn.Module):
    """Mean feature of each box."""

    def forward(self, maps, boxes):
        means = [maps[int(i), :, y : y + 4, x : x + 4].mean((1, 2)) for i, x, y in boxes.tolist()]
        return torch.stack(means)


@MODELS.register_module()
class ToyTwoStage(ToyModel):
    """Chooses as many random boxes per image as it is told to, and scores them."""

    def __init__(self, num_boxes=3, stages=1, **kwargs):
        super().__init__(**kwargs)
        self.num_boxes = num_boxes
        self.regions = nn.ModuleList(Regions() for _ in range(stages))
        width = self.head.cls.in_channels
        self.scores = nn.ModuleList(nn.Linear(width, 4) for _ in range(stages))
        self.finished = 0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        self.modes.append(mode)
        maps = self.extract_feat(inputs)[0]
        images = torch.arange(len(inputs)).repeat_interleave(self.num_boxes)
        self.boxes = torch.cat((images[:, None], torch.randint(0, 4, (len(images), 2))), 1)
        for regions, scores in zip(self.regions, self.scores):
            output = scores(regions(maps, boxes=self.boxes))
            # As the hosts do: by the number of its own boxes.
            output.split([self.num_boxes] * len(inputs))
        self.finished += 1
        if mode == 'loss':
            return dict(loss_task=output.square().mean())
        return output


@pytest.fixture
def config():
    return dict(
        type='mmdiffkd.DiffKDDistiller',
        student=dict(type='ToyTwoStage'),
        teacher=dict(
            config=dict(type='ToyTwoStage', num_boxes=5, stages=2, width=12), checkpoint='random'
        ),
        pairs=dict(
            fpn=dict(
                student='neck',
                teacher='neck',
                head=dict(type='AlignHead'),
                loss=dict(type='MSELoss'),
            ),
            scores=dict(
                student='scores.0',
                teacher='scores.0',
                teacher_inputs=dict(
                    student='regions.0:input[boxes]', teacher='regions.0:input[boxes]'
                ),
                loss=dict(type='MSELoss'),
            ),
        ),
    )


def test_teacher_sees_the_student_s_boxes(config, images):
    distiller = MODELS.build(config).eval()
    loss = distiller(images, mode='loss')['loss_kd_scores']
    boxes, teacher, student = distiller.student.boxes, distiller.teacher.model, distiller.student
    assert len(boxes) == 6
    expected = nn.functional.mse_loss(
        student.scores[0](student.regions[0](student.extract_feat(images)[0], boxes)),
        teacher.scores[0](teacher.regions[0](teacher.extract_feat(images)[0], boxes)),
    )
    torch.testing.assert_close(loss, expected)


def test_other_pairs_are_not_affected(config, images):
    distiller = MODELS.build(config).eval()
    loss = distiller(images, mode='loss')['loss_kd_fpn']
    alone = copy.deepcopy(config)
    del alone['pairs']['scores']
    other = MODELS.build(alone).eval()
    other.load_state_dict(distiller.state_dict())
    other.teachers = distiller.teachers
    torch.testing.assert_close(loss, other(images, mode='loss')['loss_kd_fpn'])


def test_teacher_stops_where_the_captured_modules_are_done(config, images):
    """Its second stage and what hosts do with their own boxes afterwards never run."""
    distiller = MODELS.build(config)
    assert distiller.teacher.model.finished == 0
    distiller(images, mode='loss')
    assert distiller.teacher.model.finished == 0
    assert distiller.student.finished == 2  # the dry forward and the step


def test_every_number_of_boxes_trains(config, images):
    distiller = MODELS.build(config)
    for number in (1, 4, 7):
        distiller.student.num_boxes = number
        loss, _ = distiller.parse_losses(distiller(images, mode='loss'))
        loss.backward()
    assert distiller.student.scores[0].weight.grad.abs().sum() > 0


def test_without_teacher_inputs_the_remedy_is_named(config, images):
    del config['pairs']['scores']['teacher_inputs']
    with pytest.raises(ValueError, match='3 rows for 1 images.*teacher_inputs'):
        MODELS.build(config)


def test_feeding_a_module_too_late_is_refused(config):
    config['pairs']['scores']['teacher_inputs']['teacher'] = 'regions.1:input[boxes]'
    with pytest.raises(ValueError, match=r"'regions.1:input\[boxes\]': the module did not run"):
        MODELS.build(config)


def test_features_that_do_not_correspond_are_refused(config):
    config['pairs']['scores']['student'] = 'neck[0]'
    with pytest.raises(ValueError, match='pairs.scores: .* 1 rows for 1 images, .* 3'):
        MODELS.build(config)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (dict(student='regions.0:input[boxes]'), "teacher_inputs: 'teacher' is required"),
        ([5], 'teacher_inputs must be a dict .* got 5'),
        (dict(student='regions.0', teacher='regions.0:input'), "'regions.0' is no input; write"),
        (
            dict(student='regions.0:input', teacher='regions.0:input[maps]'),
            'teacher: the dry forward of a blank 224x224 image failed: ',
        ),
        (dict(student='regions.0:input[box]', teacher='regions.0:input[1]'), "no argument 'box'"),
        (dict(student='regions.0:input', teacher='regoins.0:input'), "closest are .*'regions.0'"),
        (dict(student='regions.0:input', teacher='regions[0]:input'), 'must name a whole argument'),
        (dict(student='regions.0:input[9]', teacher='regions.0:input'), "no argument '9'"),
    ],
)
def test_wrong_teacher_inputs(config, given, message):
    config['pairs']['scores']['teacher_inputs'] = given
    with pytest.raises(ValueError, match=message):
        MODELS.build(config)


def test_one_pair_cannot_feed_one_input_differently(config):
    given = config['pairs']['scores']['teacher_inputs']
    other = dict(student='regions.0:input[0]', teacher='regions.0:input[1]')
    config['pairs']['scores']['teacher_inputs'] = [given, other]
    with pytest.raises(ValueError, match='gets two values'):
        MODELS.build(config)


@pytest.fixture
def stages(config):
    """Two stages in a row, each with a pair; the host splits what they yield by its own boxes."""
    config['student']['stages'] = 2
    scores = config['pairs'].pop('scores')
    for stage in range(2):
        boxes = f'regions.{stage}:input[boxes]'
        config['pairs'][f'stage{stage}'] = dict(
            scores,
            student=f'scores.{stage}',
            teacher=f'scores.{stage}',
            teacher_inputs=dict(student=boxes, teacher=boxes),
        )
    return config


def test_stages_in_a_row_are_fed_one_by_one(stages, images):
    distiller = MODELS.build(stages)
    losses = distiller(images, mode='loss')
    distiller.parse_losses(losses)[0].backward()
    boxes, teacher = distiller.student.boxes, distiller.teacher.model
    maps, theirs = distiller.student.extract_feat(images)[0], teacher.extract_feat(images)[0]
    for stage in range(2):
        expected = nn.functional.mse_loss(
            distiller.student.scores[stage](distiller.student.regions[stage](maps, boxes)),
            teacher.scores[stage](teacher.regions[stage](theirs, boxes)),
        )
        torch.testing.assert_close(losses[f'loss_kd_stage{stage}'], expected)


def test_pairs_that_feed_alike_share_a_forward(stages, images):
    stages['pairs']['again'] = stages['pairs']['stage0']
    distiller = MODELS.build(stages)
    teacher = distiller.teacher.model
    teacher.modes.clear()
    distiller(images, mode='loss')
    assert teacher.modes == ['tensor', 'extract_feat'] * 2


def test_pairs_may_feed_one_input_differently(stages, images):
    """The teacher's first stage sees the boxes of each of the student's."""
    stages['pairs']['stage1'].update(
        teacher='scores.0',
        teacher_inputs=dict(student='regions.1:input[1]', teacher='regions.0:input[1]'),
    )
    losses = MODELS.build(stages)(images, mode='loss')
    assert losses['loss_kd_stage0'] > 0 and losses['loss_kd_stage1'] > 0
