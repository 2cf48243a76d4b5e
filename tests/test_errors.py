"""How the tools tell errors."""

import json
import logging
import os

import pytest

from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.errors import (
    ArgumentParser,
    ConfigError,
    describe,
    one_line_errors,
)


@pytest.fixture
def the_line(capsys):
    """Run something that fails; returns its status and the one line that it wrote to stderr."""

    def run(fail):
        with pytest.raises(SystemExit) as end, one_line_errors():
            fail()
        (line,) = capsys.readouterr().err.splitlines()
        return end.value.code, line

    return run


def fail(error):
    raise error


def test_own_errors_are_one_line(the_line, tmp_path):
    status, line = the_line(lambda: load_file(tmp_path / 'no\nsuch'))
    assert status == 1
    assert line.startswith("error: checkpoint: no file '")
    assert line.endswith('(--debug shows the traceback)')
    assert the_line(lambda: fail(SystemExit('--amp needs a GPU'))) == (
        1,
        'error: --amp needs a GPU',
    )
    _, line = the_line(lambda: fail(ConfigError('x' * 10_000 + 'end')))
    assert len(line) < 1600 and 'end (--debug' in line


def test_an_error_without_a_text_is_told_by_its_code():
    with pytest.raises(NotImplementedError) as caught:
        raise NotImplementedError
    assert describe(caught.value) == 'NotImplementedError: raise NotImplementedError'


def test_other_errors_and_exits_pass():
    with pytest.raises(ConfigError), one_line_errors(debug=True):
        raise ConfigError('key')
    with pytest.raises(json.JSONDecodeError), one_line_errors():
        json.loads('{')
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise SystemExit(130)
    assert end.value.code == 130


def test_a_closed_terminal_does_not_disturb_a_log(capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, 'w') as closed, one_line_errors():
        handler = logging.StreamHandler(closed)
        handler.handle(logging.makeLogRecord(dict(msg='x' * 100_000)))
        # What could not be written stays in the buffer of the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), closed.fileno())
    assert capsys.readouterr().err == ''


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
    with pytest.raises(SystemExit) as end:
        parser.parse_args(argv)
    assert end.value.code == 2
    assert capsys.readouterr().err == f'error: {message} (--help shows the usage)\n'
