"""Reading the config inside a checkpoint without running it."""

import ast
from typing import Any, Dict

from mmdiffkd.errors import CheckpointError, describe


class _DictCalls(ast.NodeTransformer):
    """Writes ``dict(a=1)`` and ``dict({'a-b': 1})``, as mmengine does, as ``{...}``."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if ast.unparse(node.func) != 'dict':
            return node
        keys = [key for arg in node.args for key in arg.keys]
        values = [value for arg in node.args for value in arg.values]
        keys += [ast.Constant(keyword.arg) for keyword in node.keywords]
        return ast.Dict(keys, values + [keyword.value for keyword in node.keywords])


def plain_config(text: str) -> Dict[str, Any]:
    """The values of a config that consists of plain values, as mmengine writes it.

    Args:
        text: The config's text, ``meta['cfg']`` of a checkpoint.

    Raises:
        CheckpointError: If there is anything but assignments of literals and ``dict(...)``.
    """
    try:
        return {
            target.id: ast.literal_eval(statement.value)
            for statement in _DictCalls().visit(ast.parse(text)).body
            for target in statement.targets
        }
    except (SyntaxError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f'checkpoint: the config in it was not read, it does not consist of plain values: '
            f'{describe(error)}. If you trust its source, give --trust-checkpoint'
        ) from error
