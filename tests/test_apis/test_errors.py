"""Who sees a traceback."""

import json

import pytest

from mmdiffkd.apis import one_line_errors
from mmdiffkd.checkpoint import load_file
from mmdiffkd.distillers import FeaturePath


def test_a_user_s_mistake_is_one_line(capsys):
    with pytest.raises(SystemExit) as exit_status, one_line_errors():
        FeaturePath.parse('neck[')
    assert exit_status.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: module path 'neck[' is not of the form")


def test_lines_of_a_message_are_joined(capsys, tmp_path):
    with pytest.raises(SystemExit), one_line_errors():
        load_file(tmp_path / 'no\nsuch')
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_debug_lets_it_through():
    with pytest.raises(ValueError, match='module path'), one_line_errors(debug=True):
        FeaturePath.parse('neck[')


def test_faults_elsewhere_keep_their_traceback():
    with pytest.raises(ValueError, match='invalid literal'), one_line_errors():
        int('x')


def test_with_advice_they_are_one_line_that_says_where(capsys):
    with pytest.raises(SystemExit), one_line_errors(advice='ask its authors'):
        json.loads('{')
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: json failed at ') and 'JSONDecodeError' in line
    assert 'ask its authors' in line
