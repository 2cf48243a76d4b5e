"""Mistakes of a user end in one line.

Needs the standard library alone, so that a library which is missing is one line as well.
"""

import argparse
import sys
from contextlib import contextmanager
from typing import Iterator, NoReturn, Optional

from mmdiffkd.messages import describe, one_line, place_of, shortened, steps_of, suggest

_PACKAGE = __name__.partition('.')[0]
_LONGEST = 1500
# What mmengine's runner does, and the key of the config that says how.
_KEYS = {
    'build_train_loop': 'train_cfg',
    'build_val_loop': 'val_cfg',
    'build_test_loop': 'test_cfg',
    'build_dataloader': 'dataloader',
    'build_evaluator': 'evaluator',
    'build_optim_wrapper': 'optim_wrapper',
    'build_param_scheduler': 'param_scheduler',
    'build_visualizer': 'visualizer',
    'build_log_processor': 'log_processor',
    'build_model': 'model',
    'register_default_hooks': 'default_hooks',
    'register_custom_hooks': 'custom_hooks',
    'set_randomness': 'randomness',
    'setup_env': 'env_cfg',
    'import_modules_from_strings': 'custom_imports',
    'load_or_resume': 'load_from, resume',
}


class ArgumentParser(argparse.ArgumentParser):
    """One whose complaints are one line, without the usage, and name the closest flag."""

    def error(self, message: str) -> NoReturn:
        """End the process with status 2."""
        unknown = message.partition('unrecognized arguments: ')[2].split()
        if unknown:
            message += suggest(unknown[0].partition('=')[0], self._option_string_actions)
        self.exit(2, f'error: {shortened(one_line(message), _LONGEST)} (--help shows the usage)\n')


def add_debug_argument(parser: argparse.ArgumentParser) -> None:
    """Add the flag that :func:`one_line_errors` asks for."""
    parser.add_argument(
        '--debug', action='store_true', help='show where an error came from (its traceback)'
    )


class _Progress:
    under_way = False


def training_is_under_way() -> None:
    """Say that a step of training is done.

    From now on an unexpected error of another library keeps its traceback: before, one can have it
    again at once with ``--debug``; now perhaps only after days.
    """
    _Progress.under_way = True


@contextmanager
def one_line_errors(debug: bool = False, advice: Optional[str] = None) -> Iterator[None]:
    """End the process with status 1 and one line on stderr when something goes wrong.

    What the package itself refuses is told in its own words. Of an error of another library the
    line tells the key of the config, if it is known, what was said, and where. Only one that comes
    when training is under way, and not from reading data or files, keeps its traceback.

    Args:
        debug: Let all errors through.
        advice: What to do about an error of another library.
    """
    _Progress.under_way = False
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.code, str):
            raise
        _end(end.code.removeprefix('error: '))
    except Exception as error:
        if debug:
            raise
        if _is_own(error):
            message = str(error)
        elif _Progress.under_way and not _is_of_data(error):
            raise
        else:
            message = ': '.join(filter(None, (_key_of(error), describe(error))))
            if advice is not None:
                message += f'; {advice}'
            message += f' (from {place_of(error)})'
        _end(f'{message} (--debug shows the traceback)')


def _end(message: str) -> NoReturn:
    print(f'error: {shortened(one_line(message), _LONGEST)}', file=sys.stderr)
    raise SystemExit(1) from None


def _is_own(error: Exception) -> bool:
    """Whether the package's own lines raised it, with a message for the user."""
    *_, step = steps_of(error)
    module = step.tb_frame.f_globals.get('__name__', '').partition('.')[0]
    return module in (_PACKAGE, '__main__') and isinstance(
        error, (ValueError, OSError, RuntimeError)
    )


def _is_of_data(error: Exception) -> bool:
    """Whether it comes from reading data or files, or from a device's memory."""
    return (
        isinstance(error, OSError)
        or type(error).__name__ == 'OutOfMemoryError'
        or _passed_through(error, 'torch.utils.data')
    )


def _passed_through(error: Exception, module: str) -> bool:
    names = (step.tb_frame.f_globals.get('__name__', '') for step in steps_of(error))
    return any(f'{name}.'.startswith(f'{module}.') for name in names)


def _key_of(error: Exception) -> Optional[str]:
    """The key of the config that an error of mmengine's runner is about, if it can be told."""
    key = split = None
    for step in steps_of(error):
        code = step.tb_frame.f_code
        if code.co_name in _KEYS and 'mmengine' in code.co_filename:
            key = _KEYS[code.co_name]
            split = key.partition('_cfg')[0] if key.endswith('_cfg') else split
    if key is None and _passed_through(error, 'torch.utils.data'):
        return 'data'
    if key in ('dataloader', 'evaluator') and split in ('train', 'val', 'test'):
        return f'{split}_{key}'
    return key
