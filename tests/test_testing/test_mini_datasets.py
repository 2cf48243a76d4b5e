"""What holds for every miniature data set: made once, completely, always the same."""

import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from mmdiffkd import testing

TOOL = Path(__file__).resolve().parents[2] / 'tools/make_mini_dataset.py'
SMALL = dict(num_train=4, num_val=3)
MAKERS = {
    'ade20k': testing.make_mini_ade20k,
    'cifar100': testing.make_mini_cifar100,
    'cityscapes': testing.make_mini_cityscapes,
    'coco': testing.make_mini_coco,
    'imagenet': testing.make_mini_imagenet,
}
every_kind = pytest.mark.parametrize('kind', MAKERS)
with_pictures = pytest.mark.parametrize('kind', sorted(MAKERS.keys() - {'cifar100'}))


def is_picture(path):
    return path.suffix.lower() in ('.jpg', '.jpeg', '.png')


@every_kind
def test_same_arguments_same_bytes(tmp_path, kind, file_contents):
    first, again = (file_contents(MAKERS[kind](tmp_path / name, **SMALL)) for name in 'ab')
    assert first == again
    other = file_contents(MAKERS[kind](tmp_path / 'other', **SMALL, seed=1))
    assert other.keys() == first.keys()
    same = {path for path in first if first[path] == other[path]}
    # The class list and the list of ImageNet's files do not depend on the seed.
    assert {path.name for path in same} <= {'meta', 'train.txt', 'val.txt'}


@with_pictures
def test_pictures_do_not_depend_on_their_number(tmp_path, kind, file_contents):
    few = file_contents(MAKERS[kind](tmp_path / 'few', **SMALL))
    many = file_contents(MAKERS[kind](tmp_path / 'many', num_train=7, num_val=4))
    pictures = [path for path in few if is_picture(path)]
    assert len(pictures) >= 7
    assert all(few[path] == many[path] for path in pictures)


@with_pictures
def test_no_picture_occurs_twice(tmp_path, kind, file_contents):
    pictures = {
        path: content
        for path, content in file_contents(MAKERS[kind](tmp_path / 'mini', **SMALL)).items()
        if is_picture(path) and 'annotations' not in path.parts and 'gtFine' not in path.parts
    }
    assert len({*pictures.values()}) == len(pictures) == 7


@every_kind
def test_complete_data_set_is_reused_and_never_overwritten(tmp_path, kind, file_contents):
    root = MAKERS[kind](tmp_path / 'mini', **SMALL)
    before = file_contents(root)
    times = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    assert MAKERS[kind](str(root), **SMALL) == root
    with pytest.raises(FileExistsError, match='num_val: 3 there, 2 asked'):
        MAKERS[kind](root, num_train=4, num_val=2)
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == times
    assert file_contents(root) == before


@every_kind
def test_foreign_data_is_never_touched(tmp_path, kind):
    (tmp_path / 'mine').write_text('precious')
    with pytest.raises(FileExistsError, match='nothing was written'):
        MAKERS[kind](tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ['mine']


@with_pictures
def test_interrupted_writing_leaves_nothing(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(cv2, 'imwrite', lambda *args: False)
    with pytest.raises(OSError, match='cannot write'):
        MAKERS[kind](tmp_path / 'mini', **SMALL)
    assert not list(tmp_path.iterdir())


@every_kind
@pytest.mark.parametrize(
    'wrong', [dict(num_train=0), dict(num_val=500_001), dict(num_classes=0), dict(num_classes=101)]
)
def test_wrong_arguments_are_named(tmp_path, kind, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MAKERS[kind](tmp_path / 'mini', **{**SMALL, **wrong})
    assert not list(tmp_path.iterdir())


@with_pictures
@pytest.mark.parametrize('size', [(31, 64), (64, 31), (64, 4097)])
def test_sizes_out_of_range_are_refused(tmp_path, kind, size):
    with pytest.raises(ValueError, match='image_size'):
        MAKERS[kind](tmp_path / 'mini', **SMALL, image_size=size)


@pytest.mark.parametrize('kind', sorted(MAKERS.keys() - {'coco'}))
def test_no_classes_at_all_are_refused(tmp_path, kind):
    with pytest.raises(ValueError, match='number of classes'):
        MAKERS[kind](tmp_path / 'mini', **SMALL, classes=[])


@every_kind
def test_command_line_tool(tmp_path, kind, file_contents):
    size = [] if kind == 'cifar100' else ['--image-size', '64', '48']
    options = {} if kind == 'cifar100' else dict(image_size=(64, 48))
    counts = ['--num-train', '4', '--num-val', '3', '--num-classes', '3', '--seed', '2']
    command = [sys.executable, str(TOOL), kind, str(tmp_path / 'tool'), *counts, *size]
    printed = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    # No progress bar in a log file.
    assert printed == f'data set ready: {tmp_path / "tool"}\n'
    direct = MAKERS[kind](tmp_path / 'direct', **SMALL, num_classes=3, seed=2, **options)
    assert file_contents(tmp_path / 'tool') == file_contents(direct)


def test_command_line_tool_names_an_option_that_has_no_meaning(tmp_path):
    command = [
        sys.executable,
        str(TOOL),
        'cifar100',
        str(tmp_path / 'x'),
        '--image-size',
        '64',
        '48',
    ]
    refused = subprocess.run(command, check=False, text=True, stderr=subprocess.PIPE)
    assert refused.returncode == 1
    assert refused.stderr.startswith('error: cifar100 has no option --image-size')
    assert len(refused.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
