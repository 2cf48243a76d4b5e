"""Several teachers of one student, and a student that learns from its own moving average."""

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from mmdiffkd.apis.train import train
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.configs import load_config, student_config, teachers_in
from tests.conftest import make_toy_config
from tests.toy_run import toy_run

OWN = dict(average=dict(momentum=0.25, begin=2))


@pytest.fixture
def config(toy_teacher):
    """Maps are learned from a frozen teacher, scores from the student's average."""
    config = make_toy_config(None)
    config['teachers'] = dict(frozen=toy_teacher, own=copy.deepcopy(OWN))
    del config['teacher']
    for name, pair in config['pairs'].items():
        pair['teacher'] = f'{"own" if name == "logits" else "frozen"}:{pair["teacher"]}'
    return config


def step(distiller, images):
    losses = distiller(images, mode='loss')
    distiller.parse_losses(losses)[0].backward()
    with torch.no_grad():
        for parameter in distiller.student.parameters():
            parameter -= 0.1 * parameter.grad
    distiller.zero_grad()
    return losses


def test_each_pair_learns_from_its_own_teacher(config, images):
    distiller = MODELS.build(config)
    features = {}
    for name, teacher in distiller.teachers.items():
        ask = teacher.features
        teacher.features = lambda *args, name=name, ask=ask: features.setdefault(name, ask(*args))
    distiller(images, mode='loss')
    assert {name: [*found] for name, found in features.items()} == dict(
        frozen=['fpn', 'stem'], own=['logits']
    )
    assert features['frozen']['stem'][0].shape[1] == 12


def test_a_teacher_that_no_active_pair_needs_rests(config, images):
    distiller = MODELS.build(config)
    for pair in distiller.pairs.values():
        pair.active = pair.name == 'logits'
    for teacher in distiller.teachers.values():
        teacher.model.modes.clear()
    distiller(images, mode='loss')
    assert distiller.teachers['frozen'].model.modes == []
    assert distiller.teachers['own'].model.modes


def test_average_follows_the_student(config, images):
    """It is the student until it begins, and then moves a quarter of the way in each step."""
    distiller = MODELS.build(config).train()
    student, average = distiller.student, distiller.teachers['own'].model
    expected = None
    for number in range(5):
        now = copy.deepcopy(student.state_dict())
        step(distiller, images)
        weights = now['head.cls.weight']
        expected = weights if number < 2 else expected + 0.25 * (weights - expected)
        torch.testing.assert_close(average.head.cls.weight, expected)
        # Running statistics are the student's.
        assert torch.equal(average.backbone[1].running_mean, now['backbone.1.running_mean'])
    assert not torch.equal(average.head.cls.weight, student.head.cls.weight)
    assert not average.training and not any(p.requires_grad for p in average.parameters())


def test_average_is_saved_and_not_optimised(config, images):
    distiller, other = MODELS.build(copy.deepcopy(config)), MODELS.build(config)
    for _ in range(4):
        step(distiller, images)
    state = distiller.state_dict()
    assert 'distill.averages.own.module.head.cls.weight' in state
    assert [key for key in state if not key.startswith('distill.')] == [
        *distiller.student.state_dict()
    ]
    other.load_state_dict(state)
    saved = distiller.teachers['own'].model.state_dict()
    for name, value in other.teachers['own'].model.state_dict().items():
        assert torch.equal(value, saved[name])
    optimizer = build_optim_wrapper(distiller, dict(optimizer=dict(type='SGD', lr=0.1)))
    optimised = {id(p) for group in optimizer.param_groups for p in group['params']}
    assert optimised == {id(p) for p in distiller.parameters() if p.requires_grad}


def test_resumed_training_ends_with_the_same_average(config, tmp_path):
    def run(folder, **changes):
        cfg = toy_run(copy.deepcopy(config), tmp_path / folder, **changes)
        cfg.model.type = 'mmdiffkd.DiffKDDistiller'
        cfg.train_cfg.max_epochs = changes.get('epochs', 3)
        cfg.custom_hooks = [dict(type='mmdiffkd.ExactResumeHook')]
        return train(cfg).model.state_dict()

    whole = run('whole')
    run('parts', epochs=2)
    resumed = run('parts', resume=True)
    assert any(key.startswith('distill.averages.own.') for key in whole)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_a_single_teacher_may_be_the_average(images):
    config = make_toy_config(dict(average={}))
    distiller = MODELS.build(config).eval()
    # At first it is the student, so equal modules yield the same.
    assert distiller(images, mode='loss')['dist_before_logits'] == 0
    assert 'distill.averages.teacher.steps' in distiller.state_dict()


def test_parts_start_from_one_of_the_teachers(config, toy_teacher):
    config['student']['width'] = 12
    config.update(init_from_teacher=['frozen:neck', 'frozen:head'])
    distiller = MODELS.build(config)
    distiller.init_weights()
    weights = torch.load(toy_teacher['checkpoint'])['state_dict']
    assert torch.equal(distiller.student.head.cls.weight, weights['head.cls.weight'])
    with pytest.raises(ConfigError, match="init_from_teacher: 'neck' does not begin with the name"):
        MODELS.build({**config, 'init_from_teacher': dict(neck='neck')})


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(teacher=OWN), r'teacher=dict\(config=..., checkpoint=...\) is required, or in its'),
        (dict(teachers=None), 'is required, or in its place'),
        (dict(teachers=['a']), 'teachers must be a dict'),
        (dict(teachers=dict(a=OWN)), "fpn.teacher: 'frozen:neck' does not .* 'a:neck'"),
        (dict(teachers=dict(frozen=OWN, own=OWN, c=OWN)), 'teachers.c: no pair learns from'),
        (dict(teachers=dict(own=dict(config={}))), "teachers.own: teacher: 'checkpoint' is req"),
        (dict(teachers=dict(own=dict(average=dict(decay=1)))), "unknown key 'decay'.*momentum"),
        (dict(teachers=dict(own=dict(average=dict(momentum=1)))), 'between 0 and 1, got 1'),
        (dict(teachers=dict(own=dict(average=dict(begin=0.5)))), 'average.begin must be an integ'),
    ],
)
def test_mistakes(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        MODELS.build(copy.deepcopy({**config, **changes}))


def test_a_distiller_is_no_student(toy_config):
    with pytest.raises(ConfigError, match='student: DiffKDDistiller has a module'):
        MODELS.build({**copy.deepcopy(toy_config), 'student': toy_config})


def test_paths_beside_the_file_are_found(tmp_path):
    (tmp_path / 'big.pth').touch()
    (tmp_path / 'config.py').write_text(
        "model = dict(student='s', teachers=dict(a=dict(config='c', checkpoint='big.pth')))"
    )
    model = load_config(tmp_path / 'config.py', 'config').model
    assert teachers_in(model)['teachers.a']['checkpoint'] == str(tmp_path / 'big.pth')
    assert teachers_in(student_config(dict(type='ToyModel'))) == {}
