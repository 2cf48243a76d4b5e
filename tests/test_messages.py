"""What a terminal shows of a run, and what only the log file has."""

import logging
import warnings

import pytest
from mmengine.logging import MMLogger

from mmdiffkd.errors import ConfigError
from mmdiffkd.messages import SHORT, SILENT, shorten, tell, terminal


@pytest.mark.parametrize(
    ('level', 'shown'),
    [
        (SHORT, ['ours', 'WARNING: theirs', 'printed']),
        (SILENT, ['ours']),
        (None, ['ours', 'a detail', 'theirs', 'printed']),
    ],
)
def test_terminal_shows_what_the_level_says(tmp_path, capsys, level, shown):
    MMLogger._instance_dict.clear()
    logger = MMLogger.get_instance('messages', log_file=str(tmp_path / 'log'), log_level='INFO')
    with terminal(level), warnings.catch_warnings():
        warnings.simplefilter('always')
        tell('ours')
        logger.info('a detail')
        logger.warning('theirs')
        print('printed')
        if level is not None:
            warnings.warn('of Python', stacklevel=1)
    logged = (tmp_path / 'log').read_text()
    assert all(text in logged for text in ('ours', 'a detail', 'theirs'))
    assert ('printed' in logged) == (level == SILENT)
    assert ('of Python' in logged) == (level is not None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(shown)
    assert all(text in line for text, line in zip(shown, lines))


def test_output_before_there_is_a_log_file(tmp_path, capsys):
    MMLogger._instance_dict.clear()
    with terminal(SILENT), warnings.catch_warnings():
        warnings.simplefilter('always')
        print('printed')
        warnings.warn('of Python', stacklevel=1)
    with terminal(SILENT):
        MMLogger.get_instance('late', log_file=str(tmp_path / 'log'), log_level='INFO')
    logged = (tmp_path / 'log').read_text()
    assert 'printed' in logged and 'of Python' in logged and not capsys.readouterr().out


@pytest.mark.parametrize(('kind', 'shown'), [(RuntimeError, 'printed\n'), (ConfigError, '')])
def test_output_before_an_error(kind, shown, capsys):
    """It may tell the reason of a traceback; the message of an error of ours is enough."""
    MMLogger._instance_dict.clear()
    with pytest.raises(kind), terminal(SILENT):
        print('printed')
        raise kind
    assert capsys.readouterr().err == shown


def test_logger_that_is_made_while_output_is_caught(capsys):
    """As that of a runner in a smoke run: it still reaches the terminal."""
    MMLogger._instance_dict.clear()
    with terminal(SILENT):
        shorten(MMLogger.get_instance('made_late'), SILENT)
        logging.getLogger('py.warnings').warning('not shown')
        tell('shown')
    assert capsys.readouterr().out == 'shown\n'
