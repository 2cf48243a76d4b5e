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
        items = [item for arg in node.args for item in zip(arg.keys, arg.values)]
        items += [(ast.Constant(keyword.arg), keyword.value) for keyword in node.keywords]
        return ast.Dict([key for key, _ in items], [value for _, value in items])


def plain_config(text: str) -> Dict[str, Any]:
    """The values of a config of literals and ``dict(...)`` alone; others are refused."""
    try:
        return {
            target.id: ast.literal_eval(statement.value)
            for statement in _DictCalls().visit(ast.parse(text)).body
            for target in statement.targets
        }
    except (SyntaxError, ValueError, TypeError, AttributeError) as error:
        what = f'its config does not consist of plain values ({describe(error)})'
        raise CheckpointError(f'checkpoint: {what}; --trust-checkpoint reads it') from error
