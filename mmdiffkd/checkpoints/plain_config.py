"""Reading the config inside a checkpoint without running it."""

import ast
from typing import Any, Dict

from mmdiffkd.errors import CheckpointError


def plain_config(text: str) -> Dict[str, Any]:
    """The values in a config that consists of plain values, as mmengine writes it.

    Args:
        text: ``meta['cfg']`` of a checkpoint.

    Raises:
        CheckpointError: If there is anything but assignments of literals and ``dict(...)``.
    """
    values = {}
    try:
        for statement in ast.parse(text).body:
            if not isinstance(statement, ast.Assign):
                raise _NotPlain(statement)
            (target,) = statement.targets
            if not isinstance(target, ast.Name):
                raise _NotPlain(statement)
            values[target.id] = _value(statement.value)
    except (SyntaxError, ValueError) as error:
        what = ast.unparse(error.node)[:80] if isinstance(error, _NotPlain) else str(error)
        raise CheckpointError(
            f'checkpoint: the config in it does not consist of plain values, so it was not read: '
            f'{what}. If you trust its source, give --trust-checkpoint'
        ) from error
    return values


class _NotPlain(ValueError):
    def __init__(self, node: ast.AST) -> None:
        super().__init__()
        self.node = node


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind = dict(List=list, Tuple=tuple, Set=set)[type(node).__name__]
        return kind(map(_value, node.elts))
    if _is_dict_call(node):
        values = {keyword.arg: _value(keyword.value) for keyword in node.keywords}
        return {**(_value(node.args[0]) if node.args else {}), **values}
    try:
        # Numbers, strings, None, True, negative and complex numbers.
        return ast.literal_eval(node)
    except ValueError:
        raise _NotPlain(node) from None


def _is_dict_call(node: ast.AST) -> bool:
    """Whether it is ``dict(a=..., b=...)`` or, for keys that are no names, ``dict({...})``."""
    if not isinstance(node, ast.Call) or ast.unparse(node.func) != 'dict':
        return False
    is_plain = len(node.args) < 2 and all(isinstance(arg, ast.Dict) for arg in node.args)
    return is_plain and all(keyword.arg for keyword in node.keywords)
