"""The Python examples of the pages run, and the documentation builds with all its links.

A Python block that begins with a file name and has a ``_base_`` is a config; it is trained in a
smoke run. Any other Python block is executed. Of the pages in ``WALKTHROUGHS`` the shell commands
are executed as well, section by section. ``docs/own-data.md`` is followed in an empty folder.
"""

import re
import shlex
from itertools import groupby

import numpy as np
import pytest
from PIL import Image

from ..test_tools import conftest as tools
from .pages import BLOCKS, ROOT

run, run_here = tools.run, tools.run_here

WALKTHROUGHS = ('docs/checkpoints.md', 'docs/extending.md')
OWN_DATA = 'docs/own-data.md'
# Configs that test_packaging.py trains with the installed package.
TRAINED_ELSEWHERE = ('my_resnet18.py', 'for_the_hosts_tools.py')
# Files that the examples expect a reader to have.
READERS_FILES = {
    'my_student.py': "_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'\n",
    'my_teacher.py': "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n",
}
PYTHON = [b for b in BLOCKS if b.language == 'python' and b.page not in (*WALKTHROUGHS, OWN_DATA)]
SNIPPETS = [b for b in PYTHON if not (b.file_name and '_base_ = ' in b.text)]
CONFIGS = [b for b in PYTHON if b not in SNIPPETS and b.file_name not in TRAINED_ELSEWHERE]
STEPS = {
    key: list(blocks)
    for key, blocks in groupby(
        (b for b in BLOCKS if b.page in WALKTHROUGHS and b.language in ('bash', 'python')),
        key=lambda block: (block.page, block.section),
    )
}


def named(blocks):
    return [pytest.param(b, id=f'{b.page}:{b.file_name or b.section}') for b in blocks]


@pytest.fixture
def readers_folder(tmp_path):
    """A folder with tools/, configs/ and an image, as the examples expect it."""
    for name in ('tools', 'configs'):
        (tmp_path / name).symlink_to(ROOT / name)
    Image.fromarray(np.full((96, 128, 3), 127, np.uint8)).save(tmp_path / 'image.jpg')
    return tmp_path


def commands_of(block):
    """The words of the commands of a shell block."""
    lines = block.text.replace('\\\n', '').splitlines() if block.language == 'bash' else ()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


@pytest.mark.slow
@pytest.mark.parametrize('block', named(CONFIGS))
def test_config_runs(block, run_here, tmp_path):
    for name, text in {**READERS_FILES, block.file_name: block.text}.items():
        (tmp_path / name).write_text(text)
    output = run_here('tools/train.py', block.file_name, '--smoke', cwd=tmp_path)
    assert 'loss_kd_' in output and re.search(r'(Epoch|Iter)\(val\)', output)


@pytest.mark.slow
@pytest.mark.parametrize('block', named(SNIPPETS))
def test_snippet_runs(block, readers_folder, monkeypatch):
    monkeypatch.chdir(readers_folder)
    exec(block.text, {'__name__': '__main__'})


@pytest.mark.slow
@pytest.mark.parametrize('section', STEPS, ids=lambda section: ':'.join(section))
def test_walkthrough(section, run_here, readers_folder, monkeypatch):
    """In one process, which imports the libraries once."""
    monkeypatch.chdir(readers_folder)
    for block in BLOCKS:
        if block.page == section[0] and block.file_name:
            (readers_folder / block.file_name).write_text(block.text)
    for block in STEPS[section]:
        for command in commands_of(block):
            if 'PYTHONPATH=.' in command:
                monkeypatch.syspath_prepend(readers_folder)
            if 'python' in command:
                tool, *arguments = command[command.index('python') + 1 :]
                run_here(tool, *arguments, cwd=readers_folder)
        if block.language == 'python' and not block.file_name:
            exec(block.text, {'__name__': '__main__'})


@pytest.mark.slow
@pytest.mark.parametrize('part', ['A detector', 'A segmentor', 'A classifier'])
def test_own_data(part, run_here, tmp_path):
    """The page works word for word, and the plain library names the reader's own classes."""
    commands = []
    for number, block in enumerate(b for b in BLOCKS if b.page == OWN_DATA):
        script = block.file_name or f'block_{number}.py'
        (tmp_path / script).write_text(block.text)
        if block.section in ('Images to try it with', part) and not block.file_name:
            commands += commands_of(block)
            if block.language == 'python':
                commands.append(['python', script])
    for program, name, *arguments in commands:
        tool = f'tools/{name}.py' if program == 'mmdiffkd' else tmp_path / name
        output = run_here(tool, *arguments, cwd=tmp_path)
    assert re.search('apple|lemon|plum', output)


@pytest.mark.slow
def test_documentation_builds(run, tmp_path):
    """Sphinx turns warnings, such as links to missing pages or headings, into errors."""
    pytest.importorskip('sphinx', reason='needs requirements/docs.txt')
    run('bash', 'tools/build_docs.sh', tmp_path)
    assert (tmp_path / 'index.html').is_file()
    pages = ''.join(page.read_text() for page in tmp_path.rglob('*.html'))
    assert 'Alias for field number' not in pages  # what Python says about named tuples
    # The pages need no network.
    assert not re.findall(r'(?:src|href)="https?://[^"]+\.(?:js|css|woff2?|png)"', pages)


@pytest.mark.parametrize('page', ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'])
def test_files_that_are_linked_exist(page):
    """Pages outside the documentation, which sphinx does not check."""
    for target in re.findall(r'\]\((?!https?://)([^)#\s]+)', (ROOT / page).read_text()):
        assert (ROOT / target).exists(), target
