"""The fenced blocks of the pages."""

import re
from pathlib import Path
from typing import NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md'), *ROOT.glob('docs/*/*.md')])

_BLOCK = re.compile(
    r'^(?P<note><!-- not run: .* -->\n)?```(?P<language>.*)\n(?P<text>(?:.*\n)*?)```$', re.MULTILINE
)


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        page: Path of the page, relative to the source tree.
        section: Second-level heading above the block.
        language: What is written behind the fence.
        text: Text of the block without the fences.
    """

    page: str
    section: str
    language: str
    text: str

    @property
    def file_name(self) -> Optional[str]:
        """Name of the file in the first line of blocks that are whole files."""
        match = re.match(r'# ([\w.-]+\.py)\n', self.text)
        return match and match[1]


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page, except those with ``<!-- not run: reason -->`` above."""
    text, name = page.read_text(), str(page.relative_to(ROOT))
    blocks = []
    for match in _BLOCK.finditer(text):
        headings = re.findall(r'^## (.*)$', text[: match.start()], re.MULTILINE)
        if match['note'] is None:
            section = headings[-1] if headings else ''
            blocks.append(Block(name, section, match['language'], match['text']))
    return blocks


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
