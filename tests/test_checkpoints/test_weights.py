"""Taking weights out of checkpoints and loading them."""

import pytest
import torch

from mmdiffkd.checkpoints.weights import load_strictly, weights_of
from mmdiffkd.errors import CheckpointError


def test_names():
    weights = {'module.a': torch.ones(1), 'distill.pairs.x': torch.ones(1), 'version': '1.0'}
    for checkpoint in (weights, dict(state_dict=weights), dict(model=weights)):
        assert list(weights_of(checkpoint)) == ['a']


def test_weights_below_a_prefix():
    """A part of the names, or of the keys of the file; what is there is said."""
    one, two = torch.ones(1), torch.ones(2)
    parts = dict(student={'net.a': one}, teacher={'net.a': two}, optimizer=dict(state={0: one}))
    assert weights_of(parts, 'teacher.net') == dict(a=two)
    assert list(weights_of(parts, 'teacher')) == ['net.a']
    assert weights_of(dict(state_dict={'net.a': one, 'b': two}), 'net.') == dict(a=one)
    both = dict(state_dict=dict(a=one), state_dict_ema=dict(a=two))
    assert weights_of(both) == dict(a=one) and weights_of(both, 'state_dict_ema') == dict(a=two)
    with pytest.raises(CheckpointError, match="one of: 'optimizer', 'student', 'teacher'"):
        weights_of(parts)
    with pytest.raises(CheckpointError, match="prefix='ema'; prefix may be one of: 'a'"):
        weights_of(both, 'ema')


def test_ignored_keys_are_said():
    """Once, if they leave weights random; a teacher that has none of its weights is refused."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    weights = {key: value for key, value in model.state_dict().items() if key.startswith('0')}
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmdiffkd.checkpoints.weights.tell', lambda text, *_: lines.append(text))
        load_strictly(model, weights, 'checkpoint x', ['^1'])
    assert lines == ['checkpoint x: 2 weights stay random: 1.bias, 1.weight. ignore_keys allows it']
    with pytest.raises(CheckpointError, match='none of the weights of Sequential'):
        load_strictly(model, {'other': torch.ones(1)}, 'checkpoint x', ['.'])


def test_what_a_model_keeps_beside_its_tensors():
    """torch's extra state may be any object."""

    class Counting(torch.nn.Linear):
        steps = 0

        def get_extra_state(self):
            return dict(steps=self.steps)

        def set_extra_state(self, state):
            self.steps = state['steps']

    trained, loaded = Counting(2, 2), Counting(2, 2)
    trained.steps = 3
    load_strictly(loaded, weights_of(dict(state_dict=trained.state_dict())), 'it')
    assert loaded.steps == 3
