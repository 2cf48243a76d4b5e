"""What the pages show works: configs run, commands are taken, links lead somewhere.

Each fenced block falls under one rule, or a test fails:

- a page of ``WALKTHROUGHS`` is executed, section by section, block after block;
- a Python block that begins with a file name and has a ``_base_`` is trained in a smoke run;
- any other Python block is executed by itself;
- each line of a shell block is parsed by the tool that it calls;
- ``text`` and blocks without a language are output or layouts of folders;
- ``{directive}`` blocks are the documentation builder's (test_site.py).

An HTML comment on the line above makes an exception: ``<!-- not run: reason -->``, or
``<!-- run by: tests/... -->``.
"""

import re
import subprocess
import sys
import tarfile
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..test_tools import conftest as tools
from . import commands
from .pages import BLOCKS, DOCS, PAGES, ROOT, inline_codes, prose_of

run = tools.run

# Every block of these is executed where a reader would do it: beside tools/ and configs/.
WALKTHROUGHS = ('docs/checkpoints.md', 'docs/extending.md')

# What examples take to be there.
READERS_FILES = {
    'my_student.py': "_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'\n",
    'my_teacher.py': "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n",
}

# Of pytest-cov, a converter of mmseg, pip and slurm.
OTHERS_FLAGS = ('--cov', '--nproc', '--no-build-isolation', '--kill-on-bad-exit')


def parameters(blocks):
    return [pytest.param(block, id=str(block)) for block in blocks]


def elsewhere(block):
    """Whether a block is left to another test, or to nobody, with a reason."""
    return block.note is not None or block.page in WALKTHROUGHS


CONFIGS = [block for block in BLOCKS if block.is_config and not elsewhere(block)]
SNIPPETS = [
    block
    for block in BLOCKS
    if block.language == 'python' and not block.is_config and not elsewhere(block)
]
# Within a walkthrough, what is not run.
SHELL = [
    block
    for block in BLOCKS
    if block.language == 'bash' and (block.page in WALKTHROUGHS) == (block.note is not None)
]


@pytest.fixture
def readers_folder(tmp_path):
    """Where examples take themselves to be: beside tools/ and configs/, with an image."""
    for name in ('tools', 'configs'):
        (tmp_path / name).symlink_to(ROOT / name)
    Image.fromarray(np.full((96, 128, 3), 127, np.uint8)).save(tmp_path / 'image.jpg')
    return tmp_path


def execute(blocks, folder):
    """Run blocks of one language, each by itself; Python is started once, to import once."""
    if blocks[0].language == 'bash':
        command = ['bash', '-euc', '\n'.join(block.text for block in blocks)]
    else:
        each = 'import sys\nfor text in sys.argv[1:]: exec(text, {"__name__": "__main__"})'
        command = [sys.executable, '-c', each, *(block.text for block in blocks)]
    environment = tools.make_environment()
    path = f'{Path(sys.executable).parent}:{environment["PATH"]}'
    result = subprocess.run(
        command,
        cwd=folder,
        env={**environment, 'PATH': path, 'PYTHONPATH': str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert result.returncode == 0, f'{blocks[0]}\n{result.stdout[-5000:]}'


def test_every_fence_is_read():
    for page in PAGES:
        fences = re.findall(r'^ *(?:```|~~~)', page.read_text(), re.MULTILINE)
        read = [block for block in BLOCKS if block.page == str(page.relative_to(ROOT))]
        assert len(fences) == 2 * len(read), page


@pytest.mark.parametrize('block', parameters(BLOCKS))
def test_every_block_falls_under_a_rule(block):
    assert block.language in ('', 'text', 'bash', 'python') or re.match(
        r'\{[\w-]+\}', block.language
    )
    if block.note is not None:
        kind, _, rest = block.note.partition(': ')
        assert kind in ('not run', 'run by') and rest
        if kind == 'run by':
            assert Path(block.page).name in (ROOT / rest).read_text()
    if block.language == 'python':
        compile(block.text, str(block), 'exec')


@pytest.mark.parametrize('block', parameters(CONFIGS))
def test_config_runs(block, run, tmp_path):
    for name, text in READERS_FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / block.file_name).write_text(block.text)
    output = run(ROOT / 'tools' / 'train.py', block.file_name, '--smoke', cwd=tmp_path)
    assert re.search(r'(Epoch|Iter)\(train\) .*\b2/2\]', output)
    assert 'loss_kd_' in output and 'loss_diff_' in output
    assert re.search(r'(Epoch|Iter)\(val\)', output)


def test_every_library_has_a_complete_config():
    texts = [block.text for block in CONFIGS if block.page == 'docs/your-own-model.md']
    based = {re.search(r"^_base_ = '(\w+)::", text, re.MULTILINE)[1] for text in texts}
    assert based == {'mmdet', 'mmseg', 'mmpretrain'}


@pytest.mark.parametrize('block', parameters(SNIPPETS))
def test_snippet_runs(block, readers_folder):
    execute([block], readers_folder)


@pytest.mark.parametrize('block', parameters(SHELL))
def test_commands_are_taken(block):
    for line in block.text.replace('\\\n', ' ').splitlines():
        commands.check(line)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_are_taken(page):
    for code in inline_codes(page):
        if re.fullmatch(r'(python tools/[\w/]+\.py|mmdiffkd \w+)', code):
            # A tool is meant, not a call of it.
            commands.check(f'{code} --help')
        elif re.match(
            r'(python|bash|source) tools/|mmdiffkd \w|--[a-z-]+ [\w.]+=|pip install ', code
        ):
            commands.check(code)
        elif re.match(r'\w+\.py --', code):
            (tool,) = (ROOT / 'tools').rglob(code.split()[0])
            commands.check(f'python {tool.relative_to(ROOT)} {code.partition(" ")[2]}')
        elif re.match(r'--[a-z]', code):
            assert re.match(r'--[a-z-]+', code)[0] in {*commands.flags(), *OTHERS_FLAGS}, code


@pytest.mark.parametrize(
    'line',
    [
        'python tools/train.py CONFIG --smoek',
        'python tools/trian.py CONFIG',
        'python tools/train.py configs/diffkd/no_such.py',
        'bash tools/dist_train.sh CONFIG 8 --no-such-flag',
        'bash tools/dist_train.sh CONFIG',
        'bash tools/quickstart.sh --frsh',
        'python tools/train.py configs/diffkd/retinanet_r101_r50_coco.py '
        '--cfg-options model.pairs.fnp.head.checkpoint=True',
        'pip install no-such-package',
        'mmdiffkd trian my_config.py',
        'torchrun --nproc_per_node 8 -m mmdiffkd train my_config.py --lancher pytorch',
        'rm -r data',
    ],
)
def test_wrong_commands_are_refused(line):
    with pytest.raises(commands.Refused):
        commands.check(line)


def sections():
    for page in WALKTHROUGHS:
        blocks = [block for block in BLOCKS if block.page == page]
        for section in dict.fromkeys(block.section for block in blocks):
            steps = [block for block in blocks if block.section == section]
            if any(block.language in ('python', 'bash') for block in steps):
                yield pytest.param(page, section, id=f'{Path(page).stem}:{section}')


@pytest.mark.parametrize('page, section', list(sections()))
def test_walkthrough(page, section, readers_folder):
    blocks = [block for block in BLOCKS if block.page == page]
    for block in blocks:
        if block.file_name:
            (readers_folder / block.file_name).write_text(block.text)
    steps = [
        block
        for block in blocks
        if block.section == section
        and block.language in ('bash', 'python')
        and not (block.file_name or block.note)
    ]
    for _, same in groupby(steps, key=lambda block: block.language):
        execute(list(same), readers_folder)


def test_imagenet_is_unpacked(tmp_path):
    """The shell block of docs/data.md that sorts ImageNet's archives."""
    (block,) = (block for block in BLOCKS if 'ILSVRC2012_img_train.tar -C' in block.text)
    picture = tmp_path / 'picture.JPEG'
    picture.touch()
    with tarfile.open(tmp_path / 'ILSVRC2012_img_train.tar', 'w') as train:
        for name in ('n01440764', 'n01443537'):
            with tarfile.open(tmp_path / f'{name}.tar', 'w') as archive:
                archive.add(picture, f'{name}_1.JPEG')
            train.add(tmp_path / f'{name}.tar', f'{name}.tar')
    with tarfile.open(tmp_path / 'ILSVRC2012_img_val.tar', 'w') as val:
        val.add(picture, 'ILSVRC2012_val_00000001.JPEG')
    subprocess.run(['bash', '-euc', block.text], cwd=tmp_path, check=True)
    root = tmp_path / 'data' / 'imagenet'
    assert sorted(str(path.relative_to(root)) for path in root.rglob('*') if path.is_file()) == [
        'train/n01440764/n01440764_1.JPEG',
        'train/n01443537/n01443537_1.JPEG',
        'val/ILSVRC2012_val_00000001.JPEG',
    ]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(
        r'\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)', prose_of(page)
    ):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r'^#+ (.*)$', prose_of(path), re.MULTILINE)
            assert anchor in {anchor_of(heading) for heading in headings}, f'{target}#{anchor}'


def anchor_of(heading):
    """As repository browsers and the documentation builder make it."""
    return re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


def test_every_page_is_of_the_site():
    assert DOCS / 'index.md' in PAGES
