"""Mistakes of a user end in one line."""

import argparse
import sys
import traceback
from contextlib import contextmanager
from typing import Iterator, Optional

_PACKAGE = __name__.partition('.')[0]


def add_debug_argument(parser: argparse.ArgumentParser) -> None:
    """Add the flag that :func:`one_line_errors` asks for."""
    parser.add_argument(
        '--debug', action='store_true', help='show where an error came from (its traceback)'
    )


@contextmanager
def one_line_errors(debug: bool = False, advice: Optional[str] = None) -> Iterator[None]:
    """End the process with status 1 and one line when the package itself refuses something.

    Those are the errors that the package raises with a message for the user: ``ConfigError``,
    ``CheckpointError`` and other ``ValueError``, ``OSError`` and ``RuntimeError`` from its own
    lines. What a host library or torch raises keeps its traceback, unless there is advice.

    Args:
        debug: Let all errors through.
        advice: What to do about an error of a host library; it is then one line as well, which
            says where it came from and ends with this.
    """
    try:
        yield
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        module = _module_of(error)
        if debug:
            raise
        if module == _PACKAGE and isinstance(error, (ValueError, OSError, RuntimeError)):
            message = str(error)
        elif advice is not None and module != _PACKAGE:
            message = (
                f'{module} failed at {place.filename}:{place.lineno} with {type(error).__name__}: '
                f'{error}; {advice}'
            )
        else:
            raise
        print(f'error: {" ".join(message.split())} (--debug shows the traceback)', file=sys.stderr)
        raise SystemExit(1) from None


def _module_of(error: BaseException) -> str:
    """The package whose line raised an error."""
    step = error.__traceback__
    while step.tb_next is not None:
        step = step.tb_next
    return step.tb_frame.f_globals.get('__name__', '').partition('.')[0]
