"""Who sees a traceback."""

import argparse
import json

import pytest
from torch.utils.data import DataLoader

from mmdiffkd.checkpoints.weights import load_file
from mmdiffkd.errors import ArgumentParser, one_line_errors, training_is_under_way
from mmdiffkd.models import FeaturePath


@pytest.fixture
def the_line(capsys):
    """Run something that fails; returns its status and the one line that it wrote to stderr."""

    def run(fail, **options):
        with pytest.raises(SystemExit) as end, one_line_errors(**options):
            fail()
        (line,) = capsys.readouterr().err.splitlines()
        return end.value.code, line

    return run


def test_a_user_s_mistake_is_told_in_our_words(the_line):
    status, line = the_line(lambda: FeaturePath.parse('neck['))
    assert status == 1
    assert line.startswith("error: module path 'neck[' is not of the form")
    assert line.endswith('(--debug shows the traceback)')


def test_lines_of_a_message_are_joined(the_line, tmp_path):
    _, line = the_line(lambda: load_file(tmp_path / 'no\nsuch'))
    assert 'no file' in line


def test_debug_lets_it_through():
    with pytest.raises(ValueError, match='module path'), one_line_errors(debug=True):
        FeaturePath.parse('neck[')


def test_of_other_libraries_it_says_where(the_line):
    status, line = the_line(lambda: json.loads('{'))
    assert status == 1
    assert line.startswith('error: JSONDecodeError: Expecting property name')
    assert '(from ' in line and 'decoder.py:' in line


def test_advice(the_line):
    _, line = the_line(lambda: json.loads('{'), advice='ask its authors')
    assert '; ask its authors (from ' in line


def test_messages_of_exit_look_like_the_others(the_line):
    def leave():
        raise SystemExit('--amp needs a GPU')

    assert the_line(leave) == (1, 'error: --amp needs a GPU')


@pytest.mark.parametrize('status', [None, 0, 130])
def test_other_exits_pass(status):
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise SystemExit(status)
    assert end.value.code == status


def test_unexpected_errors_in_the_midst_of_training_keep_their_traceback():
    with pytest.raises(json.JSONDecodeError), one_line_errors():
        training_is_under_way()
        json.loads('{')


class BrokenData:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise KeyError('image 7')


@pytest.mark.parametrize('num_workers', [0, 1])
def test_data_and_files_are_one_line_whenever(the_line, tmp_path, num_workers):
    def read():
        training_is_under_way()
        next(iter(DataLoader(BrokenData(), num_workers=num_workers)))

    _, line = the_line(read)
    assert line.startswith('error: data: ') and 'image 7' in line

    def open_file():
        training_is_under_way()
        (tmp_path / 'gone').read_text()

    _, line = the_line(open_file)
    assert line.startswith('error: No such file or directory: ') and 'gone' in line


def test_long_messages_lose_their_middle(the_line):
    _, line = the_line(lambda: FeaturePath.parse('x[' * 10_000))
    assert len(line) < 1600
    assert line.endswith("'head.fc:input[name or position]' (--debug shows the traceback)")


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['--smok'], "unrecognized arguments: --smok; did you mean '--smoke'?"),
        (['--gpus', 'x'], "argument --gpus: invalid int value: 'x'"),
    ],
)
def test_wrong_flags_are_one_line(capsys, argv, message):
    parser = ArgumentParser(allow_abbrev=False)
    parser.add_argument('--smoke', action='store_true')
    parser.add_argument('--gpus', type=int)
    assert isinstance(parser, argparse.ArgumentParser)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(argv)
    assert end.value.code == 2
    assert capsys.readouterr().err == f'error: {message} (--help shows the usage)\n'
