"""Is a command line of the pages one that our tools take? Nothing is trained to find out."""

import contextlib
import functools
import importlib.util
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from unittest import mock

from mmengine.config import Config
from mmengine.runner import Runner

from .pages import ROOT

# Installed with the package, each starts the tool that its first argument names.
_COMMANDS = (['mmdiffkd'], ['python', '-m', 'mmdiffkd'])
_LAUNCHERS = ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh')
# These install packages, then start a tool of ours with the rest of the line.
_SETTING_UP = {'quickstart.sh': 'quickstart.py'}
# Keys beside the runner's own that configs may get on the command line.
_TOP_LEVEL = {*inspect.signature(Runner.__init__).parameters, 'auto_scale_lr'}


class Refused(AssertionError):
    """Why a command is not accepted."""


def check(line: str) -> None:
    """Raise :class:`Refused` unless the tools take a command line."""
    words = shlex.split(line, comments=True)
    variables = {}
    while words and re.fullmatch(r'[A-Z_]+=\S*', words[0]):
        name, _, value = words.pop(0).partition('=')
        variables[name] = value
    if not words:
        return
    if words[0] == 'torchrun':
        words = ['python', *words[words.index('-m') :]]
    program, *arguments = words
    command = next((c for c in _COMMANDS if words[: len(c)] == c), None)
    if command is not None:
        if words != command:
            tool, *arguments = words[len(command) :]
            parse(f'tools/{tool}.py', arguments)
    elif program.startswith('--'):
        # Flags to be added to a command that stands above them.
        parse('tools/train.py', ['CONFIG', *words])
    elif program == 'python' and arguments and arguments[0].endswith('.py'):
        parse(arguments[0], arguments[1:])
    elif program in ('bash', 'source') and arguments and arguments[0].endswith('.sh'):
        _check_script(Path(arguments[0]), arguments[1:], variables)
    elif words[:2] == ['pip', 'install'] or words[:4] == ['python', '-m', 'pip', 'install']:
        _check_installation(words[words.index('install') + 1 :])
    else:
        raise Refused(f'no rule for {line!r}')


def _check_script(script: Path, arguments: list, variables: dict) -> None:
    if not (ROOT / script).is_file():
        raise Refused(f'no {script}')
    if script.name in _LAUNCHERS:
        tool, arguments = _launched(script, arguments, variables)
        parse(tool, arguments)
    elif script.name in _SETTING_UP:
        parse(f'tools/{_SETTING_UP[script.name]}', arguments)
    # run_tests.sh hands its arguments to pytest.
    elif [word for word in arguments if word != '--cov' and not (ROOT / word).exists()]:
        raise Refused(f'{script} {arguments}')


def _launched(script: Path, arguments: list, variables: dict) -> tuple:
    """The tool that a launcher starts, and with what."""
    with tempfile.TemporaryDirectory() as folder:
        # These stand in for what is not here, or must not start.
        for name in ('python', 'srun'):
            stand_in = Path(folder, name)
            stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
            stand_in.chmod(0o755)
        result = subprocess.run(
            ['bash', script, *arguments],
            env={**os.environ, **variables, 'PATH': f'{folder}:{os.environ["PATH"]}'},
            cwd=ROOT,
            text=True,
            capture_output=True,
        )
    if result.returncode != 0:
        raise Refused(result.stderr)
    words = result.stdout.splitlines()
    (place,) = (i for i, word in enumerate(words) if word.endswith(('/train.py', '/test.py')))
    return words[place], words[place + 1 :]


def _check_installation(words: list) -> None:
    known = '\n'.join(path.read_text() for path in (ROOT / 'requirements').glob('*.txt'))
    for option, word in zip(['', *words], words):
        if option == '-r' and not (ROOT / word).is_file():
            raise Refused(f'no {word}')
        if option == '-e' and not (ROOT / word / 'setup.py').is_file():
            raise Refused(f'no package in {word}')
        if word == '.':
            continue
        plain = not option.startswith('-') and not word.startswith('-')
        if plain and not re.search(rf'^{re.escape(word)}(==|$)', known, re.MULTILINE):
            raise Refused(f'{word} is in none of requirements/*.txt')


def parse(tool: str, arguments: list) -> None:
    """Raise :class:`Refused` unless a tool of ours takes the arguments."""
    path = ROOT / tool
    if not path.is_file():
        raise Refused(f'no {tool}')
    for word in arguments:
        ours = re.fullmatch(r'(configs|docs|tests|tools)/[\w/.-]+', word)
        # What a command writes need not be there, but its folder.
        expected = ROOT / word if word.endswith('.py') else (ROOT / word).parent
        if ours and not expected.exists():
            raise Refused(f'no {word}')
    errors = io.StringIO()
    try:
        with (
            _arguments(path, arguments),
            contextlib.redirect_stderr(errors),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            parsed = _module(path).parse_args()
    except SystemExit as end:
        if end.code == 0:  # --help
            return
        raise Refused(errors.getvalue()) from None
    config = str(getattr(parsed, 'config', ''))
    if config.startswith('configs/') and getattr(parsed, 'cfg_options', None):
        _check_options(Config.fromfile(ROOT / config), parsed.cfg_options)


def _check_options(cfg: Config, options: dict) -> None:
    for key in options:
        *parents, _ = key.split('.')
        if not parents or (parents[0] not in cfg and parents[0] in _TOP_LEVEL):
            continue
        value = cfg
        for name in parents:
            try:
                value = value[int(name) if isinstance(value, (list, tuple)) else name]
            except (KeyError, IndexError, TypeError):
                raise Refused(f'--cfg-options {key}: no {name!r} in the config') from None


@functools.cache
def flags() -> set:
    """All flags of all tools."""
    found = set()
    for path in sorted((ROOT / 'tools').rglob('*.py')):
        if 'def parse_args' not in path.read_text():
            continue
        printed = io.StringIO()
        with (
            _arguments(path, ['--help']),
            contextlib.redirect_stdout(printed),
            contextlib.suppress(SystemExit),
        ):
            _module(path).parse_args()
        found |= set(re.findall(r'(?<![\w-])--[a-z][\w-]*', printed.getvalue()))
    return found


@contextlib.contextmanager
def _arguments(path: Path, arguments: list):
    with (
        mock.patch.object(sys, 'argv', [str(path), *map(str, arguments)]),
        mock.patch.object(sys, 'path', [str(path.parent), *sys.path]),
    ):
        yield


@functools.cache
def _module(path: Path) -> ModuleType:
    """A tool as a module, without running it."""
    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
