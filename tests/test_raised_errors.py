"""What the project raises is of a kind that the tools end in one line."""

import ast
import builtins
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for folder in ('mmdiffkd', 'tools') for path in sorted((ROOT / folder).rglob('*.py'))]
# Those with a message for the user, and those that are no errors of a command line.
SENTENCES = (ValueError, OSError, RuntimeError, ImportError, SystemExit)
OTHERS = {
    'AttributeError',  # of __getattr__, for whom asks for it
    'TypeError',  # an argument too many in a call from Python
    'KeyboardInterrupt',
    'NotImplementedError',
    '_AllCaptured',
}


def raised(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(kind, ast.Name):
                yield node.lineno, kind.id


def classes_of(trees):
    """Error classes of the project, by name, with their bases."""
    return {
        node.name: [base.id for base in node.bases if isinstance(base, ast.Name)]
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


TREES = {path: ast.parse(path.read_text(encoding='utf-8')) for path in FILES}
CLASSES = classes_of(TREES.values())


def is_sentence(name):
    kind = getattr(builtins, name, None)
    if kind is not None:
        return issubclass(kind, SENTENCES)
    return any(is_sentence(base) for base in CLASSES.get(name, ()))


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_errors_are_of_kinds_with_a_sentence(path):
    local = {'error', 'errors'}  # raised again
    wrong = [
        f'line {line}: {name}'
        for line, name in raised(TREES[path])
        if name not in OTHERS | local and not is_sentence(name)
    ]
    assert not wrong


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_asserted(path):
    """Assertions vanish with ``python -O`` and say nothing to a user."""
    assert not [node.lineno for node in ast.walk(TREES[path]) if isinstance(node, ast.Assert)]


def test_the_check_sees_wrong_kinds():
    assert [name for _, name in raised(ast.parse('raise KeyError(1)'))] == ['KeyError']
    assert not is_sentence('KeyError') and not is_sentence('Exception')
    assert is_sentence('ConfigError') and is_sentence('CheckpointError') and is_sentence('LogError')
