"""Settings of the documentation; ``tools/build_docs.sh`` builds it."""

import contextlib
import io
import os
import runpy
import sys
from pathlib import Path
from typing import List, Optional
from unittest import mock

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[1]
# Docstrings are those of this tree, also where another one is installed.
sys.path.insert(0, str(ROOT))

import mmdiffkd  # noqa: E402

project = 'mmdiffkd'
author = 'the mmdiffkd authors'
release = version = mmdiffkd.__version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
]
exclude_patterns = ['_build']

myst_enable_extensions = ['colon_fence', 'deflist', 'dollarmath']
myst_heading_anchors = 3

autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

copybutton_prompt_text = r'>>> |\.\.\. |\$ '
copybutton_prompt_is_regexp = True

html_theme = 'furo'
html_title = f'mmdiffkd {release}'
html_theme_options = dict(top_of_page_buttons=['view'])  # shows the text that a page is made of
html_static_path = ['_static']
html_css_files = ['pages.css']
html_show_sphinx = False
html_show_copyright = False
html_math_renderer = 'mathml'


def visit_math(translator, node: nodes.math) -> None:
    """Formulas as MathML, which browsers render by themselves: pages need no network."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def visit_math_block(translator, node: nodes.math_block) -> None:
    """A displayed formula."""
    formula = convert(node.astext(), display='block')
    translator.body.append(f'<div class="math">{formula}</div>\n')
    raise nodes.SkipNode


class ToolHelp(SphinxDirective):
    """What a tool prints with ``--help``; the argument is its path below ``tools/``."""

    required_arguments = 1

    def run(self) -> List[nodes.Node]:
        """Called by Sphinx."""
        path = ROOT / 'tools' / self.arguments[0]
        self.env.note_dependency(str(path))
        printed = io.StringIO()
        with (
            mock.patch.object(sys, 'path', [str(path.parent), *sys.path]),
            mock.patch.object(sys, 'argv', [str(path.relative_to(ROOT)), '--help']),
            mock.patch.dict(os.environ, COLUMNS='90'),
            contextlib.redirect_stdout(printed),
            contextlib.suppress(SystemExit),
        ):
            runpy.run_path(str(path))['parse_args']()
        return [nodes.literal_block(text=printed.getvalue(), language='text')]


def skip_field(app: Sphinx, what: str, name: str, member: object, skip: bool, _) -> Optional[bool]:
    """Leave out the fields of named tuples, which the docstring of the class describes."""
    return True if type(member).__name__ == '_tuplegetter' else None


def widen_pictures(app: Sphinx, page: nodes.document) -> None:
    """Give pictures the width of the page; Sphinx links scaled ones to their files."""
    for picture in page.findall(nodes.image):
        picture.setdefault('width', '100%')


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect('autodoc-skip-member', skip_field)
    app.connect('doctree-read', widen_pictures)
    app.add_directive('tool-help', ToolHelp)
    app.add_html_math_renderer('mathml', (visit_math, None), (visit_math_block, None))
