"""What is said about an error: in one line, short, with a hint where there is one.

Needs the standard library alone, so that it can speak about what else is missing.
"""

import difflib
import inspect
import linecache
import re
import traceback
from pathlib import Path
from types import TracebackType
from typing import Iterable, Iterator, List, Optional

_LONGEST = 500
# Errors whose type says no more than their message does.
_PLAIN = (OSError, ImportError, RuntimeError, NotImplementedError)
_IN_WORKER = re.compile(r'Caught \w+ in .*\.\nOriginal Traceback')
_MMCV = '; install it with --no-build-isolation after torch, and not as mmcv-lite'
_UNEXPECTED = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r'(\w+)\.__init__\(\) missing \d+ required .*?: (.*)')
_URL_HINT = re.compile(
    r' (More details can be found|You can also refer to|See also|Please refer).*'
)


def suggest(name: str, accepted: Iterable[str]) -> str:
    """``'; did you mean ...?'`` if something accepted is spelled like ``name``, else empty."""
    close = difflib.get_close_matches(str(name), [str(item) for item in accepted], n=3)
    return f'; did you mean {" or ".join(map(repr, close))}?' if close else ''


def one_line(text: str) -> str:
    """The text with line breaks and runs of white space as single spaces."""
    return ' '.join(text.split())


def shortened(text: str, longest: int = _LONGEST) -> str:
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
