"""What the terminal shows of a run; the log file of the run has everything."""

import io
import logging
import sys
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Iterator, List, Optional, TextIO

from mmengine.logging import MMLogger

from mmdiffkd.errors import UserError

SHORT, SILENT = 'WARNING', 'CRITICAL'
"""Values of ``terminal_level`` in a config. SHORT shows the messages of this package and the
warnings of other libraries, SILENT the messages of this package alone."""

# What is meant for the log file, which does not exist before the runner.
_unwritten: List[str] = []


def tell(text: str, level: int = logging.INFO) -> None:
    """Log a message of this package, which the terminal shows whatever its ``terminal_level``."""
    MMLogger.get_current_instance().log(level, text, extra=dict(is_told=True))


def shorten(logger: logging.Logger, level: str) -> None:
    """Have the terminal show only what :func:`tell` logs, and other records from a level on.

    The handlers of files keep everything.
    """
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            # A logger that was made while standard output was caught must not write there.
            handler.setStream(getattr(handler.stream, 'terminal', handler.stream))
            handler.filters = [item for item in handler.filters if not isinstance(item, _Filter)]
            handler.addFilter(_Filter(logging.getLevelName(level)))
            handler.setFormatter(_Formatter())


def lengthen(logger: logging.Logger) -> None:
    """Undo :func:`shorten`, except for the short form of the lines."""
    for handler in logger.handlers:
        handler.filters = [item for item in handler.filters if not isinstance(item, _Filter)]


@contextmanager
def terminal(level: Optional[str]) -> Iterator[None]:
    """:func:`shorten` the current logger, and have Python's warnings go to the log file alone.

    With the level :data:`SILENT` all that is printed in the block goes there too. With None
    everything stays as it is. What comes before there is a log file is kept for it, and shown on
    stderr if the block ends with an error that has a traceback.
    """
    with ExitStack() as stack:
        if level is not None:
            logger = MMLogger.get_current_instance()
            shorten(logger, level)
            stack.callback(lambda: [*map(lengthen, (logger, MMLogger.get_current_instance()))])
            handler, warnings = _ToLogFile(), logging.getLogger('py.warnings')
            warnings.addHandler(handler)
            stack.callback(warnings.removeHandler, handler)
            logging.captureWarnings(True)
            stack.callback(logging.captureWarnings, False)
        if level == SILENT:
            stack.enter_context(redirect_stdout(_Printed(sys.stdout)))
        try:
            yield
            _log()
        except Exception as error:
            for text in () if isinstance(error, UserError) else _unwritten:
                print(text, file=sys.stderr)
            _unwritten.clear()
            raise


class _Filter(logging.Filter):
    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= self.level or getattr(record, 'is_told', False)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        kind = f'{record.levelname}: ' if record.levelno > logging.INFO else ''
        return kind + super().format(record)


def _log(text: str = '') -> None:
    """Write a text into the log file, or as soon as there is one."""
    logger = MMLogger.get_current_instance()
    _unwritten.extend(filter(None, [text.rstrip()]))
    while _unwritten and logger.log_file:
        logger.info(_unwritten.pop(0))


class _ToLogFile(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _log(record.getMessage())


class _Printed(io.TextIOBase):
    """Standard output that becomes records of the log; ``terminal`` is the real one."""

    def __init__(self, terminal: TextIO) -> None:
        super().__init__()
        self.terminal = terminal
        self._is_logging = False

    def write(self, text: str) -> int:
        # A logger that was made while standard output was caught writes its records here.
        if text.strip() and not self._is_logging:
            self._is_logging = True
            try:
                _log(text)
            finally:
                self._is_logging = False
        return len(text)
