"""The pages say what is there: their configs run, links lead somewhere, commands exist."""

import functools
import re
import shlex
from pathlib import Path

import pytest

from .test_tools import conftest as tools

ROOT = tools.ROOT
run = tools.run

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
BLOCK = re.compile(r'^```(?P<language>\w*)\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
# The first line of a complete config is the name of its file.
FILE_NAME = re.compile(r'# (?P<name>[\w.-]+\.py)\n')
CONFIG_PATH = re.compile(r"'(?P<path>[^'\s]+\.py)'")
# Interpreters and launchers in front of what a command really runs.
SCRIPT = re.compile(r'tools/[\w/.-]+\.(py|sh)')


def blocks(page, language):
    return [m['text'] for m in BLOCK.finditer(page.read_text()) if m['language'] == language]


def complete_configs():
    """All python blocks that begin with the name of their file, as (page, name, text)."""
    for page in PAGES:
        for text in blocks(page, 'python'):
            match = FILE_NAME.match(text)
            if match:
                yield pytest.param(match['name'], text, id=f'{page.name}:{match["name"]}')


def commands():
    """All lines of shell blocks that run something of tools/, as (script, words)."""
    for page in PAGES:
        for text in blocks(page, 'bash'):
            for line in text.replace('\\\n', ' ').splitlines():
                words = shlex.split(line, comments=True)
                scripts = [word for word in words if SCRIPT.fullmatch(word)]
                if scripts:
                    yield pytest.param(scripts[0], words, id=f'{page.name}:{line.strip()[:60]}')


@pytest.mark.parametrize('name, text', list(complete_configs()))
def test_config_runs(name, text, run, tmp_path):
    missing = [
        path
        for path in CONFIG_PATH.findall(text)
        if '::' not in path and not Path(ROOT, path).is_file()
    ]
    if missing:
        pytest.skip(f'builds on files of the reader: {", ".join(missing)}')
    config = tmp_path / name
    config.write_text(text)
    output = run('tools/train.py', config, '--smoke', '--work-dir', tmp_path)
    assert re.search(r'(Epoch|Iter)\(train\) .*\b2/2\]', output)
    assert 'loss_kd_' in output and 'loss_diff_' in output
    assert re.search(r'(Epoch|Iter)\(val\)', output)


def test_every_library_has_a_complete_config():
    text = (ROOT / 'docs' / 'other-pairs.md').read_text()
    based = set(re.findall(r"^_base_ = '(\w+)::", text, re.MULTILINE))
    assert based == {'mmdet', 'mmseg', 'mmpretrain'}


def test_python_blocks_are_python():
    for page in PAGES:
        for number, text in enumerate(blocks(page, 'python'), 1):
            compile(text, f'{page.name}, python block {number}', 'exec')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    text = BLOCK.sub('', page.read_text())
    targets = re.findall(r'\]\((?!https?://|#)([^)#\s]+)', text)
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize('script, words', list(commands()))
def test_commands_exist(script, words, run):
    assert (ROOT / script).is_file()
    for word in words:
        if re.fullmatch(r'(configs|docs|tests)/[\w/.-]+', word):
            assert (ROOT / word).exists(), word
    flags = {word.partition('=')[0] for word in words if re.match(r'--?[a-z]', word)}
    unknown = flags - set(accepted_flags(script, run))
    assert not unknown


@functools.lru_cache
def accepted_flags(script, run):
    """What a tool lists in its help; a shell script passes its own on to the tools that it runs."""
    if script.endswith('.py'):
        return re.findall(r'(?<![\w-])--?[a-z][\w-]*', run(script, '--help'))
    source = (ROOT / script).read_text()
    flags = re.findall(r'(?<![\w-])--[a-z][\w-]*', source)
    for inner in set(re.findall(r'[\w/]+\.py', source)):
        if (ROOT / 'tools' / Path(inner).name).is_file():
            flags += accepted_flags(f'tools/{Path(inner).name}', run)
    return flags
