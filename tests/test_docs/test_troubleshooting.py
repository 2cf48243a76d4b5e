"""Every message that the troubleshooting page explains is one of the project's own."""

import ast
import re
from pathlib import Path

import pytest

from .pages import DOCS, ROOT

PAGE = (DOCS / 'troubleshooting.md').read_text()
# What differs from case to case, on the page.
ANY = '…'
OTHERS = ('Messages of other libraries', 'No message, but something is wrong')


def messages():
    for section in PAGE.split('\n## ')[1:]:
        if not section.startswith(OTHERS):
            yield from re.findall(r'^\| `(.*?)` \|', section, re.MULTILINE)


def texts_in(path: Path):
    """All strings of a file; what is filled in at run time is ``ANY``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield ''.join(
                part.value if isinstance(part, ast.Constant) else ANY for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


TEXTS = {
    text
    for folder in ('mmdiffkd', 'tools')
    for path in (ROOT / folder).rglob('*.py')
    for text in texts_in(path)
}


@pytest.mark.parametrize('message', list(messages()))
def test_message_exists(message):
    fragments = [re.escape(part) for part in message.split(ANY)]
    assert max(map(len, fragments)) > 9, 'says too little to be found'
    # At the end of a message, too, ANY stands for the rest of it.
    pattern = re.compile('.*'.join(fragments), re.DOTALL)
    assert any(pattern.fullmatch(text) for text in TEXTS)


def test_page_has_messages_of_every_part():
    assert len(list(messages())) > 40
