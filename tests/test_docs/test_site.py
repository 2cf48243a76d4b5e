"""The documentation builds without a warning, and all that it should list is in it."""

import re
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from mmdiffkd.registry import HOOKS, MODELS, OPTIMIZERS

from ..test_tools import conftest as tools
from .pages import DOCS, PAGES, ROOT

run = tools.run


@pytest.fixture(scope='module')
def site(run, tmp_path_factory):
    pytest.importorskip('sphinx', reason='needs requirements/docs.txt')
    out = tmp_path_factory.mktemp('site')
    # What tools/build_docs.sh does, with the Python that runs this test.
    (command,) = re.findall(
        r'^python (-m sphinx .*) docs "\$out"$',
        (ROOT / 'tools' / 'build_docs.sh').read_text(),
        re.MULTILINE,
    )
    run(sys.executable, *command.split(), '-d', tmp_path_factory.mktemp('trees'), 'docs', out)
    return out


def test_builds_without_warnings_and_with_every_page(site):
    for page in PAGES:
        if DOCS in page.parents:
            assert (site / page.relative_to(DOCS).with_suffix('.html')).is_file()


def test_links_within_the_site_lead_somewhere(site):
    for page in site.rglob('*.html'):
        text = page.read_text()
        for target in re.findall(r'(?:href|src)="([^"]*)"', text):
            if re.match(r'[a-z]+:|//', target) or target == '#':
                continue
            path, _, anchor = unquote(target.partition('?')[0]).partition('#')
            file = Path(page.parent, path) if path else page
            assert file.is_file(), f'{page.name}: {target}'
            if anchor and file.suffix == '.html':
                assert f'id="{anchor}"' in file.read_text(), f'{page.name}: {target}'


@pytest.mark.parametrize('registry', [MODELS, HOOKS, OPTIMIZERS], ids=lambda r: r.name)
def test_reference_lists_every_registered_type(site, registry):
    registry.import_from_location()
    text = (site / 'reference' / 'configuration.html').read_text()
    ours = [cls for cls in registry.module_dict.values() if cls.__module__.startswith('mmdiffkd.')]
    assert ours
    missing = [cls.__name__ for cls in ours if f'.{cls.__name__}"' not in text]
    assert not missing


def test_every_tool_is_listed(site):
    text = (site / 'reference' / 'commands.html').read_text()
    for path in (ROOT / 'tools').rglob('*'):
        if path.suffix == '.sh' or (path.suffix == '.py' and 'ArgumentParser(' in path.read_text()):
            assert path.name in text
