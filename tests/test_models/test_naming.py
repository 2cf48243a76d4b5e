"""Names in checkpoints, for students that give any names to their weights."""

import copy
from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import get_state_dict
from mmengine.runner.checkpoint import load_state_dict as mmengine_load
from torch import nn

from mmdiffkd.models.naming import checkpoint_name

from ..conftest import ToyModel, make_toy_config

words = st.sampled_from(['a', 'backbone', 'student', 'distill', 'pairs', 'module', '0'])
names = st.lists(words, min_size=1, max_size=4).map('.'.join)
# A student with a part called `distill` could not be told from what is ours.
own = names.filter(lambda name: not (name + '.').startswith('distill.'))
parts = names.filter(lambda name: not (name + '.').startswith('student.'))


@MODELS.register_module()
class OutermostToy(ToyModel):
    """Changes all names that there are, as if it were always the outermost."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.register_state_dict_post_hook(lambda _, state, *more: rename(state, 'net.{}'.format))
        self.register_load_state_dict_pre_hook(
            lambda _, state, *more: rename(state, lambda key: key[4:])
        )


def rename(state, new_name):
    for key in [*state]:
        state[new_name(key)] = state.pop(key)


@MODELS.register_module()
class DemandingToy(ToyModel):
    """Has another name for one weight, and fails without it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        bias, scale = 'head.cls.bias', 'scale'
        self.register_state_dict_post_hook(
            lambda _, state, prefix, *more: state.update({prefix + scale: state.pop(prefix + bias)})
        )
        self.register_load_state_dict_pre_hook(
            lambda _, state, prefix, *more: state.update({prefix + bias: state.pop(prefix + scale)})
        )


@MODELS.register_module()
class OverridingToy(ToyModel):
    """Has methods in the place of hooks."""

    def state_dict(self, *args, **kwargs):
        state = super().state_dict(*args, **kwargs)
        return OrderedDict((f'net.{key}', value) for key, value in state.items())

    def load_state_dict(self, state_dict, strict=True):
        return super().load_state_dict({k[4:]: v for k, v in state_dict.items()}, strict)


STUDENTS = ['ToyModel', 'HidingToy', 'OutermostToy', 'DemandingToy', 'OverridingToy']


def built(student):
    config = make_toy_config(dict(config=dict(type='ToyModel', width=12), checkpoint='random'))
    return MODELS.build(dict(config, student=copy.deepcopy(student)))


def tensors(module):
    return {
        **dict(nn.Module.named_parameters(module)),
        **dict(module.named_buffers()),
    }


def same(one, other):
    one, other = tensors(one), tensors(other)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def load_in_an_average(distiller, state):
    wrapper = nn.Sequential(distiller)
    wrapper.load_state_dict({f'0.{key}': value for key, value in state.items()}, strict=True)


@pytest.mark.parametrize('load', [nn.Module.load_state_dict, mmengine_load, load_in_an_average])
@pytest.mark.parametrize('kind', STUDENTS)
def test_there_and_back(kind, load):
    """The state dict has what the student gives, and loading goes through the student."""
    distiller, other = built(dict(type=kind)), built(dict(type=kind))
    assert not same(distiller, other)
    for state in (distiller.state_dict(), get_state_dict(distiller)):
        students = {key: value for key, value in state.items() if key[:8] != 'distill.'}
        assert list(students) == list(distiller.student.state_dict())
        assert len(state) - len(students) == len(distiller.pairs.state_dict())
    plain = MODELS.build(dict(type=kind))
    plain.load_state_dict(students, strict=True)
    assert same(plain, distiller.student)
    load(other, state, strict=True) if load is not load_in_an_average else load(other, state)
    assert same(distiller, other)
    assert [name for name, _ in other.named_children()] == ['student', 'averages', 'pairs']


@pytest.mark.parametrize('kind', STUDENTS)
def test_a_plain_student_s_names_are_a_student_s(kind):
    distiller, plain = built(dict(type=kind)), MODELS.build(dict(type=kind))
    result = distiller.load_state_dict(plain.state_dict(), strict=False)
    assert same(plain, distiller.student) and not result.unexpected_keys


@pytest.mark.parametrize('kind', STUDENTS)
def test_weights_of_another_shape_are_an_error_and_the_others_loaded(kind):
    distiller, other = built(dict(type=kind)), MODELS.build(dict(type=kind, num_classes=5))
    with pytest.raises(
        (RuntimeError, ValueError), match='for student.head.cls.weight.*\n.*head.cls.bias'
    ):
        distiller.load_state_dict(other.state_dict(), strict=False)
    assert same(distiller.student.neck, other.neck) and 'student' in distiller._modules


def test_names_of_modules_load_too():
    """mmdet's SyncNormHook loads what it has gone through the modules for."""
    distiller = built(dict(type='ToyModel'))
    distiller.load_state_dict({'student.backbone.1.running_mean': torch.ones(8)}, strict=False)
    assert distiller.student.backbone[1].running_mean.sum() == 8


@pytest.mark.parametrize('kind', STUDENTS)
def test_parameters_have_the_names_that_the_student_gives_them(kind):
    distiller = built(dict(type=kind))
    named = dict(distiller.named_parameters())
    assert [*named][: -len([*distiller.pairs.parameters()])] == [
        name for name, _ in distiller.student.named_parameters()
    ]
    assert len(named) == len([*distiller.parameters()])


@given(st.sets(own), st.sets(parts))
def test_no_two_names_become_one(student, ours):
    everything = [*(f'student.{name}' for name in student), *ours]
    assert len({checkpoint_name(name) for name in everything}) == len(everything)
