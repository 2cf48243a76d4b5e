"""Which inputs the teacher's modules get from the student's."""

from typing import Any, Dict

from torch import nn

from mmdiffkd.capture import FeaturePath, argument_name, resolve_path
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.hosts import check_keys


def input_replacements(name: str, given: Any, teacher: nn.Module) -> Dict[FeaturePath, str]:
    """Read the ``teacher_inputs`` of a pair.

    Args:
        name: The pair's.
        given: What its config has, or None.
        teacher: The teacher.

    Returns:
        The teacher's input path -> the student's.

    Raises:
        ConfigError: If an entry is no pair of input paths, or contradicts another one.
        ValueError: If a path is malformed or names no module.
    """
    replacements: Dict[FeaturePath, str] = {}
    given = given or ()
    if not isinstance(given, (dict, list, tuple)):
        raise ConfigError(
            f'pairs.{name}.teacher_inputs must be a dict with the keys student and teacher, or '
            f'a list of such, got {given!r}'
        )
    for number, entry in enumerate([given] if isinstance(given, dict) else given):
        where = f'pairs.{name}.teacher_inputs' + ('' if entry is given else f'[{number}]')
        check_keys(entry, ('student', 'teacher'), ('student', 'teacher'), where)
        path = resolve_path(teacher, entry['teacher'], role='teacher')
        for text in entry.values():
            if FeaturePath.parse(text).argument is None:
                raise ConfigError(
                    f"{where}: {text!r} is no input; write '{text}:input' or "
                    f"'{text}:input[argument name]'"
                )
        if path.indices:
            raise ConfigError(f'{where}: {path.text!r} must name a whole argument')
        # The same argument may be written as a number or as a name.
        forward = teacher.get_submodule(path.module).forward
        path = path._replace(argument=argument_name(forward, path.argument))
        path = path._replace(text=f'{path.module}:input[{path.argument}]')
        if replacements.setdefault(path, entry['student']) != entry['student']:
            raise ConfigError(
                f'{where}: {path.text!r} already gets {replacements[path]!r} from another entry'
            )
    return replacements
