"""The pages, cut into the blocks of code in them."""

import re
from pathlib import Path
from typing import NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs'
PAGES = sorted(
    [*ROOT.glob('*.md'), *(page for page in DOCS.rglob('*.md') if '_build' not in page.parts)]
)

_BLOCK = re.compile(
    r'^(?:<!-- (?P<note>[^\n]*?) -->\n)?'
    r'(?P<fence>```+)(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=fence)$',
    re.MULTILINE | re.DOTALL,
)
# The first line of a file that a reader is to save says its name.
_FILE_NAME = re.compile(r'# (?P<name>[\w.-]+\.py)\n')


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        page: Of the page, relative to the source tree.
        section: Second-level heading above it.
        line: Of its first line.
        note: What an HTML comment just above says about it, if there is one.
        language: As written behind the fence.
        text: Without the fences.
    """

    page: str
    section: str
    line: int
    note: Optional[str]
    language: str
    text: str

    @property
    def file_name(self) -> Optional[str]:
        """Of a block that is a whole file."""
        match = _FILE_NAME.match(self.text) if self.language == 'python' else None
        return match and match['name']

    @property
    def is_config(self) -> bool:
        return self.file_name is not None and bool(re.search(r'^_base_ = ', self.text, re.M))

    def __str__(self) -> str:
        return f'{self.page}:{self.line}'


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    blocks = []
    for match in _BLOCK.finditer(text):
        before = text[: match.start('text')]
        headings = re.findall(r'^## (.*)$', _BLOCK.sub('', before), re.MULTILINE)
        blocks.append(
            Block(
                str(page.relative_to(ROOT)),
                headings[-1] if headings else '',
                before.count('\n') + 1,
                match['note'],
                match['language'],
                match['text'],
            )
        )
    return blocks


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def prose_of(page: Path) -> str:
    """A page without its blocks."""
    return _BLOCK.sub('', page.read_text())


def inline_codes(page: Path) -> list[str]:
    """Code within the text of a page, each on one line."""
    spans = re.findall(r'(?<!`)`([^`]+)`(?!`)', prose_of(page))
    return [' '.join(span.split()) for span in spans]
