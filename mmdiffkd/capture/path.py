"""Module paths: how a config names what a module yields or is given."""

import difflib
import inspect
import re
from typing import Any, Callable, List, NamedTuple, Optional, Tuple, Union

from torch import nn

from mmdiffkd.errors import ConfigError

_PATH = re.compile(
    r'(?P<module>[^\[\]:]+)(?P<indices>(\[(-?\w+|-?\d*:-?\d*)\])*)'
    r'(?P<input>:input(\[(?P<argument>\w+)\])?)?'
)


class FeaturePath(NamedTuple):
    """Where a feature is read.

    Attributes:
        text: Path as it is written in the config.
        module: Dotted name of a submodule.
        indices: Indices to apply one after the other to the module's output (or argument):
            ``'-1'``, a slice such as ``'1:'``, which picks the upper levels of a pyramid, or the
            key of a dict.
        argument: Position (as ``'0'``) or name of the argument to read instead of the module's
            output, or None for the output.
    """

    text: str
    module: str
    indices: Tuple[str, ...]
    argument: Optional[str]

    @classmethod
    def parse(cls, text: str) -> 'FeaturePath':
        """Parse paths such as ``'neck[1:]'``, ``'backbone[-1]'`` or ``'head.fc:input[rois]'``."""
        match = _PATH.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ConfigError(
                f"module path {text!r} is not of the form 'neck', 'backbone[-1]', 'neck[1:]', "
                f"'backbone[key]', 'head.fc:input' or 'head.fc:input[name or position]'"
            )
        indices = tuple(re.findall(r'\[(.+?)\]', match['indices']))
        argument = None if match['input'] is None else match['argument'] or '0'
        return cls(text, match['module'], indices, argument)


def resolve_path(model: nn.Module, text: str, role: str = 'model') -> FeaturePath:
    """Parse a path and check that the model has its module.

    Raises:
        ConfigError: If it is malformed or names no module; the closest names are listed.
    """
    path = FeaturePath.parse(text)
    names = dict(model.named_modules(remove_duplicate=False))
    if path.module not in names:
        close = difflib.get_close_matches(path.module, names, n=5, cutoff=0.5)
        close = close or [name for name in names if name and '.' not in name]
        raise ConfigError(
            f'{role} path {path.text!r}: {type(model).__name__} has no module '
            f'{path.module!r}; the closest are {", ".join(map(repr, close))}'
        )
    return path


def _positional(forward: Callable) -> List[str]:
    """Names of the arguments that may be given by position, without those of ``*args``."""
    parameters = inspect.signature(forward).parameters.values()
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def argument_name(forward: Callable, argument: str) -> str:
    """The name of an argument that is given by its position or its name."""
    names = _positional(forward)
    by_position = argument.isdigit() and int(argument) < len(names)
    return names[int(argument)] if by_position else argument


def locate_argument(
    forward: Callable, args: tuple, kwargs: dict, argument: str, where: str
) -> Union[int, str, Any]:
    """Where an argument is in a call: its index in ``args``, or its key in ``kwargs``.

    Raises:
        ValueError: If it was not given.
    """
    names, name = _positional(forward), argument_name(forward, argument)
    position = int(argument) if argument.isdigit() else None
    if name in names:
        position = names.index(name)
    if position is not None and position < len(args):
        return position
    if name in kwargs:
        return name
    taken = ', '.join(inspect.signature(forward).parameters)
    raise ConfigError(f'{where}: no argument {argument!r} was given; the module takes {taken}')
