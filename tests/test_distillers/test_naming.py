"""Names in checkpoints, for state dicts of any names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mmdiffkd.distillers.naming import (
    checkpoint_name,
    from_checkpoint_names,
    to_checkpoint_names,
)

pytestmark = pytest.mark.contract(4, 'student checkpoints')

words = st.sampled_from(['a', 'backbone', 'student', 'distill', 'pairs', 'module', '0'])
names = st.lists(words, min_size=1, max_size=4).map('.'.join)
# A student with a part called `distill` could not be told from what is ours.
own = names.filter(lambda name: not (name + '.').startswith('distill.'))
parts = names.filter(lambda name: not (name + '.').startswith('student.'))
prefixes = st.sampled_from(['', '0.', 'module.', 'model.student.', 'distill.'])


@given(st.sets(own), st.sets(parts), prefixes, st.sets(names))
def test_there_and_back(student, ours, prefix, foreign):
    """Also below a prefix, beside keys of other modules, which stay as they are."""
    before = {f'{prefix}student.{name}': f'student {name}' for name in student}
    before.update({f'{prefix}{name}': f'ours {name}' for name in ours})
    others = {name: 'foreign' for name in foreign if prefix and not name.startswith(prefix)}
    state = {**before, **others}
    to_checkpoint_names(nn.Module(), state, prefix, {})
    assert state == {
        **{f'{prefix}{name}': f'student {name}' for name in student},
        **{f'{prefix}distill.{name}': f'ours {name}' for name in ours},
        **others,
    }
    from_checkpoint_names(state, prefix, {}, True, [], [], [])
    assert state == {**before, **others}


@given(own)
def test_a_plain_student_s_names_are_a_student_s(name):
    state = {name: 0}
    from_checkpoint_names(state, '')
    assert state == {'student.' + name: 0} and checkpoint_name('student.' + name) == name


@given(st.sets(own), st.sets(parts))
def test_no_two_names_become_one(student, ours):
    everything = [*(f'student.{name}' for name in student), *ours]
    assert len({checkpoint_name(name) for name in everything}) == len(everything)
