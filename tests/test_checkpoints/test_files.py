"""Whenever a process is killed, a whole file is there."""

import os

import pytest
from mmengine.fileio import get_file_backend

from mmdiffkd.checkpoints.files import ATOMIC, AtomicBackend


class Killed(BaseException):
    pass


@pytest.fixture
def backend():
    return get_file_backend(backend_args=dict(backend=ATOMIC))


def test_old_content_stays_until_the_new_one_is_whole(backend, monkeypatch, tmp_path):
    def die(file):
        raise Killed

    path = tmp_path / 'folder' / 'epoch_1.pth'
    backend.put(b'old', str(path))
    monkeypatch.setattr(os, 'fsync', die)
    with pytest.raises(Killed):
        backend.put(b'new content', str(path))
    assert path.read_bytes() == b'old'


def test_removal_waits_for_the_end(backend, tmp_path):
    old, again, new = (tmp_path / name for name in ('old.pth', 'again.pth', 'new.pth'))
    for path in (old, again):
        backend.put(b'', str(path))
    with AtomicBackend.removing_last():
        backend.remove(str(old))
        backend.remove(str(again))
        assert old.is_file()
        # Another backend, as mmengine makes one for each file.
        get_file_backend(backend_args=dict(backend=ATOMIC)).put(b'', str(new))
        get_file_backend(backend_args=dict(backend=ATOMIC)).put(b'', str(again))
    assert sorted(os.listdir(tmp_path)) == ['again.pth', 'new.pth']
    backend.remove(str(again))
    assert os.listdir(tmp_path) == ['new.pth']
