"""Mistakes of a user end in one line."""

import argparse
import sys
from contextlib import contextmanager
from types import TracebackType
from typing import Iterator, Optional

_PACKAGE = __name__.partition('.')[0]


def add_debug_argument(parser: argparse.ArgumentParser) -> None:
    """Add the flag that :func:`one_line_errors` asks for."""
    parser.add_argument(
        '--debug', action='store_true', help='show where an error came from (its traceback)'
    )


@contextmanager
def one_line_errors(debug: bool = False) -> Iterator[None]:
    """End the process with status 1 and one line when the package itself refuses something.

    Those are the errors that the package raises with a message for the user: ``ConfigError``,
    ``CheckpointError`` and other ``ValueError``, ``OSError`` and ``RuntimeError`` from its own
    lines. What a host library or torch raises keeps its traceback.

    Args:
        debug: Let all errors through.
    """
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        if debug or not _is_ours(error.__traceback__):
            raise
        message = ' '.join(str(error).split())
        print(f'error: {message} (--debug shows the traceback)', file=sys.stderr)
        raise SystemExit(1) from None


def _is_ours(traceback: Optional[TracebackType]) -> bool:
    """Whether an error was raised by a line of this package."""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_frame.f_globals.get('__name__', '').partition('.')[0] == _PACKAGE
