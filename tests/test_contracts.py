"""docs/contracts.md and the marks of the tests say the same."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / 'docs' / 'contracts.md'
NUMBER_OF_CONTRACTS = 12


def contracts():
    """Number and name of each contract, to its clauses, each with the tests that hold it."""
    sections = re.split(r'^## (\d+)\. (.+)$', PAGE.read_text(), flags=re.MULTILINE)[1:]
    found = {}
    for number, name, text in zip(sections[::3], sections[1::3], sections[2::3]):
        rows = re.findall(r'^\| (.+?) \| (`.+`) \|$', text, re.MULTILINE)
        clauses = {clause: re.findall(r'`([^`]+)`', tests) for clause, tests in rows}
        found[int(number), name.lower()] = clauses
    return found


def marks_of(nodes):
    """The contracts in the decorators, or in the value of ``pytestmark``."""
    calls = [call for node in nodes for call in ast.walk(node) if isinstance(call, ast.Call)]
    return {
        tuple(argument.value for argument in call.args)
        for call in calls
        if ast.unparse(call.func) == 'pytest.mark.contract'
    }


def marked_tests():
    """``file::name`` of all functions and classes, to the contracts that they are marked with."""
    found = {}
    for path in sorted(TESTS.rglob('test_*.py')):
        body = ast.parse(path.read_text()).body
        assigned = [node for node in body if isinstance(node, ast.Assign)]
        common = [node.value for node in assigned if ast.unparse(node.targets[0]) == 'pytestmark']
        for node in body:
            if (
                isinstance(node, (ast.FunctionDef, ast.ClassDef))
                and node.name.lower()[:4] == 'test'
            ):
                name = f'{path.relative_to(TESTS).as_posix()}::{node.name}'
                found[name] = marks_of([*node.decorator_list, *common])
    return found


def test_every_contract_has_clauses_and_every_clause_a_test():
    found = contracts()
    assert [number for number, _ in found] == list(range(1, NUMBER_OF_CONTRACTS + 1))
    assert all(found.values())
    # No row of a table was overlooked.
    rows = re.findall(r'^\| (?!clause)', PAGE.read_text(), re.MULTILINE)
    assert len(rows) == sum(map(len, found.values()))


def test_every_test_of_the_page_is_marked_with_its_contract():
    marked = marked_tests()
    for contract, clauses in contracts().items():
        for tests in clauses.values():
            for test in tests:
                assert contract in marked.get(test, set()), f'{test}: {contract}'


def test_every_mark_is_a_contract():
    known = set(contracts())
    for test, marks in marked_tests().items():
        assert marks <= known, f'{test}: {marks - known}'


def test_the_design_has_the_same_contracts():
    text = (TESTS.parent / 'docs' / 'design.md').read_text()
    listed = re.findall(r'^(\d+)\. \*\*(.+?)\*\*', text, re.MULTILINE)
    assert [(int(number), name.lower()) for number, name in listed] == list(contracts())
