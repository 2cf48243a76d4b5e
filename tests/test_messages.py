"""What is said about errors of other libraries."""

from pathlib import Path

import pytest
from mmengine.registry import MODELS, DefaultScope

from mmdiffkd.errors import describe, place_of, shortened, suggest


def said(fail):
    # Other tests, in whichever order, may have a default scope for all of theirs.
    with DefaultScope.overwrite_default_scope('mmengine'), pytest.raises(Exception) as caught:
        fail()
    return describe(caught.value)


def asserts_nothing():
    raise AssertionError


@pytest.mark.parametrize(
    ('fail', 'sentence'),
    [
        (
            lambda: MODELS.build(dict(type='ToyModl')),
            "no 'ToyModl' in the mmengine::model registry",
        ),
        (lambda: MODELS.build(dict(type='ToyModl')), "; did you mean 'ToyModel'"),
        (
            lambda: MODELS.build(dict(type='ToyModel', widht=3)),
            "ToyModel does not take 'widht'; did you mean 'width'?",
        ),
        (lambda: MODELS.build(dict(type='ToyModel', width='x')), 'TypeError: '),
        (lambda: MODELS.build(dict(type='EMAHead')), "no 'EMAHead'"),
        (lambda: Path('/no/such/file').read_text(), "No such file or directory: '/no/such/file'"),
        (lambda: compile('a = (', 'x', 'exec'), "'(' was never closed (line 1)"),
        (lambda: {}['key'], 'KeyError: key'),
        (lambda: __import__('no_such_module'), "No module named 'no_such_module'"),
        (lambda: None.x, "AttributeError: 'NoneType' object has no attribute 'x'"),
        (asserts_nothing, '`raise AssertionError` failed'),
    ],
)
def test_description(fail, sentence):
    assert sentence in said(fail)


def test_link_to_a_manual_is_left_out():
    assert 'http' not in said(lambda: MODELS.build(dict(type='ToyModl')))


def test_place_is_relative_to_the_packages():
    with pytest.raises(KeyError) as caught:
        MODELS.build(dict(type='ToyModl'))
    assert place_of(caught.value).startswith('mmengine/registry/build_functions.py:')


def test_shortened_keeps_both_ends():
    assert shortened('short') == 'short'
    text = shortened('a' * 500 + 'z' * 500, 100)
    assert text.startswith('aaa') and text.endswith('zzz') and len(text) < 110


def test_suggestion():
    assert suggest('nek', ['neck', 'head']) == "; did you mean 'neck'?"
    assert suggest('nothing', ['neck', 'head']) == ''
