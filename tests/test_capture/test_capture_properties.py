"""Paths of any form, and outputs nested in any way."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmdiffkd.models import FeatureCapture, FeaturePath

names = st.from_regex(r'[a-z_][a-z_0-9]{0,5}', fullmatch=True) | st.integers(0, 12).map(str)
modules = st.lists(names, min_size=1, max_size=4).map('.'.join)
numbers = st.integers(-4, 4)
ends = numbers.map(str) | st.just('')
indices = st.lists(numbers.map(str) | st.tuples(ends, ends).map(':'.join), max_size=3)
arguments = st.none() | st.just('') | names


def written(module, indices, argument):
    """The path in a config. An argument of '' is the first, not named."""
    text = module + ''.join(f'[{index}]' for index in indices)
    if argument is None:
        return text
    return f'{text}:input' + (f'[{argument}]' if argument else '')


@given(modules, indices, arguments)
def test_parsing_is_the_inverse_of_writing(module, indices, argument):
    text = written(module, indices, argument)
    path = FeaturePath.parse(text)
    expected = argument if argument is None else argument or '0'
    assert path == (text, module, tuple(indices), expected)
    assert FeaturePath.parse(written(*path[1:])) == (written(*path[1:]), *path[1:])


class Yields(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value


leaves = st.integers(0, 99).map(lambda number: torch.full((1, 1), float(number)))
outputs = st.recursive(
    leaves, lambda inner: st.lists(inner, min_size=1, max_size=3).map(tuple) | st.lists(inner)
)


def indexed(value, index):
    """What Python makes of an index, None if nothing."""
    if not isinstance(value, (tuple, list)):
        return None
    try:
        return eval(f'value[{index}]', {'value': value})
    except IndexError:
        return None


@settings(max_examples=200)
@given(outputs, indices, st.integers(1, 3))
def test_indices_are_python_s(output, indices, calls):
    """Whatever a module yields, a path picks what Python would, once per call, or is refused."""
    expected = output
    for index in indices:
        expected = indexed(expected, index)
    tensors = [expected] if isinstance(expected, Tensor) else expected
    fits = bool(tensors) and all(isinstance(tensor, Tensor) for tensor in tensors)
    model = nn.Sequential(Yields(output))
    path = written('0', indices, None)
    if not fits:
        with (
            pytest.raises(ValueError, match='student path'),
            FeatureCapture(model, [path], 'student'),
        ):
            model(None)
        return
    with FeatureCapture(model, [path], 'student') as features:
        for _ in range(calls):
            model(None)
    assert len(features[path]) == calls * len(tensors)
    for captured, tensor in zip(features[path], list(tensors) * calls):
        assert torch.equal(captured, tensor) and captured is not tensor
