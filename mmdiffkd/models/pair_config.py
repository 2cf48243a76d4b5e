"""Checks of what a config says about pairs."""

from typing import Any, Dict

from torch import nn

from mmdiffkd.capture import FeaturePath, argument_name, resolve_path
from mmdiffkd.errors import ConfigError, check_numbers
from mmdiffkd.models.hosts import check_keys

PAIR_KEYS = ('student', 'teacher', 'head', 'loss', 'weight', 'teacher_inputs')


def check_pairs(pairs: Any) -> None:
    """Raise :class:`ConfigError` unless the names and keys in ``model.pairs`` can be used."""
    if not isinstance(pairs, dict) or not pairs:
        raise ConfigError(f'pairs must be a dict with at least one pair, got {pairs!r}')
    for name, cfg in pairs.items():
        # mmengine adds up every logged key that contains "loss", diagnostics included.
        if not str(name).isidentifier() or 'loss' in name or hasattr(nn.ModuleDict(), name):
            raise ConfigError(
                f'pairs: {name!r} cannot name a pair, because it becomes part of the names in the '
                f'log and of a module; choose an identifier without "loss" in it, such as "fpn"'
            )
        check_keys(cfg, PAIR_KEYS, ('student', 'teacher'), f'pairs.{name}')
        if cfg.get('loss') is None and cfg.get('head') is None:
            raise ConfigError(
                f"pairs.{name}: 'loss' is required, or a head that computes the distance itself"
            )
        check_numbers(0, float, where=f'pairs.{name}.', weight=cfg.get('weight', 1.0))


def input_replacements(name: str, given: Any, teacher: nn.Module) -> Dict[FeaturePath, str]:
    """Read the ``teacher_inputs`` of a pair.

    Args:
        name: Name of the pair.
        given: Value of ``teacher_inputs``: a dict with the keys ``student`` and ``teacher``, a list
            of such dicts, or None.
        teacher: Teacher model.

    Returns:
        Input path of the teacher -> input path of the student whose value it gets.

    Raises:
        ConfigError: If an entry is no pair of input paths, contradicts another one, or has a path
            that is malformed or names no module.
    """
    where = f'pairs.{name}.teacher_inputs'
    replacements: Dict[FeaturePath, str] = {}
    for entry in [given] if isinstance(given, dict) else given or ():
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
        argument = argument_name(forward, path.argument)
        path = path._replace(argument=argument, text=f'{path.module}:input[{argument}]')
        if replacements.setdefault(path, entry['student']) != entry['student']:
            raise ConfigError(f'{where}: {path.text!r} gets two values: {replacements[path]!r} too')
    return replacements
