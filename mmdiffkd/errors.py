"""Errors of the package, and how they are told.

Needs the standard library alone, so that a library which is missing is one line as well.
"""

import argparse
import difflib
import inspect
import linecache
import re
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Iterable, Iterator, List, NoReturn, Optional

_LONGEST_MESSAGE = 500
# Errors whose type says no more than their message does.
_PLAIN = (OSError, ImportError, RuntimeError, NotImplementedError)
_IN_WORKER = re.compile(r'Caught \w+ in .*\.\nOriginal Traceback')
_MMCV = '; install it with --no-build-isolation after torch, and not as mmcv-lite'
_UNEXPECTED = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r'(\w+)\.__init__\(\) missing \d+ required .*?: (.*)')
_URL_HINT = re.compile(
    r' (More details can be found|You can also refer to|See also|Please refer).*'
)


class ConfigError(ValueError):
    """A config that cannot be built; the message names key, value and what is accepted."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says which, why, and what to do."""


def suggest(name: str, accepted: Iterable[str]) -> str:
    """``'; did you mean ...?'`` if something accepted is spelled like ``name``, else empty."""
    close = difflib.get_close_matches(str(name), [str(item) for item in accepted], n=3)
    return f'; did you mean {" or ".join(map(repr, close))}?' if close else ''


def one_line(text: str) -> str:
    """The text with line breaks and runs of white space as single spaces."""
    return ' '.join(text.split())


def shortened(text: str, longest: int = _LONGEST_MESSAGE) -> str:
    """The text, its middle left out if it has more than ``longest`` characters.

    What is wrong stands at the beginning of a message, and what is accepted at its end.
    """
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f'{text[: longest - tail]} ... {text[-tail:]}'


def describe(error: BaseException) -> str:
    """What an error of another library says, in one line that can be read.

    Its type is added where the message alone would not be understood; names that a registry does
    not have get a suggestion; of what a data loader's worker raised, only the error is left.

    Args:
        error: With its traceback.
    """
    worker = _raised_in_worker(str(error))
    if worker is not None:
        return shortened(one_line(worker))
    mistake = _unknown_type(error) or _wrong_argument(error)
    if mistake is not None:
        return mistake
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f'{error.strerror}: {str(error.filename)!r}'
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f'{error.msg} (line {error.lineno})'
    # str() of a KeyError is the repr of what it says.
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = _URL_HINT.sub('', one_line(str(said)))
    if not text:
        return _failing_line(error)
    if re.search(r"No module named 'mmcv\.(_ext|ops)", text):
        return f'{text}: mmcv was built without its operations{_MMCV}'
    sentence = type(error) in (ValueError, AssertionError, KeyError) and ' ' in text
    if not sentence and not isinstance(error, _PLAIN):
        text = f'{type(error).__name__}: {text}'
    return shortened(text)


def place_of(error: BaseException) -> str:
    """Where an error was raised, as ``'mmdet/datasets/coco.py:65'``; empty if nowhere."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ''
    path = Path(frames[-1].filename)
    for root in path.parents:
        if root.name in ('site-packages', 'dist-packages'):
            path = path.relative_to(root)
            break
    return f'{path}:{frames[-1].lineno}'


def steps_of(error: BaseException) -> Iterator[TracebackType]:
    """The traceback of an error, step by step, from where it was caught to where it was raised."""
    step = error.__traceback__
    while step is not None:
        yield step
        step = step.tb_next


def _raised_in_worker(text: str) -> Optional[str]:
    """The error at the end of a traceback that a data loader's worker sent, if there is one."""
    if not _IN_WORKER.search(text):
        return None
    lines: List[str] = text.splitlines()
    # Lines of code are indented, those of the error are not.
    last = max(index for index, line in enumerate(lines) if line.startswith('  '))
    return ' '.join(lines[last + 1 :])


def _unknown_type(error: BaseException) -> Optional[str]:
    """What to say about a ``type`` that a registry of mmengine does not have."""
    found = isinstance(error, KeyError) and re.match(
        r'(\S+) is not in the (.+?) registry', str(error.args[0] if error.args else '')
    )
    if not found:
        return None
    name, registry_name = found.groups()
    known: List[str] = []
    for step in steps_of(error):
        registry = step.tb_frame.f_locals.get('registry')
        while registry is not None:
            known += getattr(registry, 'module_dict', {})
            child = getattr(registry, 'children', {}).get(name.partition('.')[0])
            known += [f'{child.scope}.{other}' for other in child.module_dict] if child else []
            registry = getattr(registry, 'parent', None)
    return f'no {name!r} in the {registry_name} registry{suggest(name, dict.fromkeys(known))}'


def _wrong_argument(error: BaseException) -> Optional[str]:
    """What to say about a class built with an argument too many, or too few."""
    if not isinstance(error, TypeError):
        return None
    missing = _MISSING.search(str(error))
    if missing:
        return f'{missing[1]} needs {missing[2]}'
    unexpected = _UNEXPECTED.search(str(error))
    if not unexpected:
        return None
    *_, step = steps_of(error)
    # The names that mmengine's registry and our own builder have for what they build, or its own.
    names = {**step.tb_frame.f_globals, **step.tb_frame.f_locals}
    classes = (names.get(name) for name in ('obj_cls', 'cls', unexpected[1]))
    fitting = [
        cls
        for cls in classes
        if unexpected[1] in (base.__name__ for base in getattr(cls, '__mro__', ()))
    ]
    known = inspect.signature(fitting[0]).parameters if fitting else ()
    return f'{unexpected[1]} does not take {unexpected[2]!r}{suggest(unexpected[2], known)}'


def _failing_line(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    code = frames and (frames[-1].line or linecache.getline(frames[-1].filename, frames[-1].lineno))
    return f'`{one_line(code)}` failed' if code else type(error).__name__


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
