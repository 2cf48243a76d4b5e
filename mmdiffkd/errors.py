"""Errors with a message for the user, and how the command-line tools show them.

This module needs the standard library alone.
"""

import argparse
import difflib
import logging
import math
import os
import re
import select
import signal
import sys
import traceback
from contextlib import contextmanager
from typing import Any, Iterable, Iterator, NoReturn, Optional, Sequence

_LONGEST_MESSAGE = 500
_LONGEST_LINE = 1500
DEBUG_HINT = ' (--debug shows the traceback)'


class UserError(Exception):
    """An error whose message is all that the user needs; the tools show it without traceback."""


class ConfigError(UserError, ValueError):
    """A config that cannot be used; the message names the key, its value and what is accepted."""


class CheckpointError(UserError, ValueError):
    """A checkpoint that cannot be used; the message names the file, the reason and what to do."""


def suggest(name: str, accepted: Iterable[str]) -> str:
    """``'; did you mean ...?'`` if an accepted name is spelled like ``name``, else empty."""
    close = difflib.get_close_matches(str(name), [str(item) for item in accepted], n=3)
    return f'; did you mean {" or ".join(map(repr, close))}?' if close else ''


def check_numbers(
    minimum: float, kind: type, above: bool = False, where: str = '', **values: float
) -> None:
    """Raise :class:`ConfigError` unless values are finite numbers of a kind, from a minimum on.

    ``kind`` is ``int`` or ``float``; with ``above`` the minimum itself is not allowed. The error
    puts ``where``, such as ``'pairs.fpn.'``, before the name.
    """
    for name, value in values.items():
        in_range = isinstance(value, (int, kind)) and minimum <= value < math.inf
        if not in_range or (above and value == minimum):
            text = 'a finite number' if kind is float else 'an integer'
            first = 'above' if above else 'from'
            raise ConfigError(f'{where}{name} must be {text} {first} {minimum}, got {value!r}')


def shortened(text: str, longest: int = _LONGEST_MESSAGE) -> str:
    """The text on one line, without its middle if it has more than ``longest`` characters."""
    text = ' '.join(text.split())
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f'{text[: longest - tail]} ... {text[-tail:]}'


def describe(error: BaseException) -> str:
    """The type and the text of another library's error, or else its line of code, on one line."""
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__)[-1:]]
    return shortened(f'{type(error).__name__}: {str(error) or " ".join(filter(None, lines))}')


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose complaints are one line without the usage, and name the closest flag.

    ``%(prog)s`` is the command as it was started, ``python tools/train.py`` or ``mmdiffkd train``.
    """

    def __init__(self, **settings: Any) -> None:
        command = f'python {sys.argv[0]}' if sys.argv[0].endswith('.py') else sys.argv[0]
        super().__init__(**dict(prog=command) | settings)

    def parse_args(
        self, args: Optional[Sequence[str]] = None, namespace: Optional[argparse.Namespace] = None
    ) -> argparse.Namespace:
        """Parse the arguments of a command line, or end the process with status 2."""
        with quiet_if_stdout_closes():
            namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = re.findall(r'--[\w-]+', self.format_usage())
            hint = suggest(unknown[0].partition('=')[0], flags)
            self.error(f'unrecognized arguments: {" ".join(unknown)}{hint}')
        return namespace

    def error(self, message: str) -> NoReturn:
        """End the process with status 2."""
        self.exit(2, f'error: {shortened(message, _LONGEST_LINE)} (--help shows the usage)\n')


def add_debug_argument(parser: argparse.ArgumentParser) -> None:
    """Add the flag for the argument ``debug`` of :func:`one_line_errors`."""
    parser.add_argument(
        '--debug', action='store_true', help='show the traceback of an error in the input'
    )


@contextmanager
def one_line_errors(debug: bool = False) -> Iterator[None]:
    """End the process with status 1 and one line on stderr for a :class:`UserError`.

    ``SystemExit`` with a text is shown in the same way. All other errors keep their traceback.

    Args:
        debug: Whether a :class:`UserError` keeps its traceback too.
    """
    # With a closed output, as behind ``| head``, a training goes on: its log is in a file as well.
    before, logging.raiseExceptions = logging.raiseExceptions, debug
    try:
        with quiet_if_stdout_closes():
            yield
    except SystemExit as end:
        if not isinstance(end.code, str):
            raise
        _end(end.code.removeprefix('error: '))
    except UserError as error:
        if debug:
            raise
        _end(f'{error}{DEBUG_HINT}')
    finally:
        logging.raiseExceptions = before


@contextmanager
def quiet_if_stdout_closes() -> Iterator[None]:
    """End the process like other commands if nobody reads its output, as behind ``| head``."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        poll = select.poll()
        poll.register(sys.stdout, 0)
        if not poll.poll(0):  # Another pipe is broken.
            raise
        # Python flushes once more at the end, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None


def _end(message: str) -> NoReturn:
    print(f'error: {shortened(message, _LONGEST_LINE)}', file=sys.stderr)
    raise SystemExit(1) from None
