"""Downloads of checkpoints: verified, cached, in one process of several."""

import hashlib

import pytest
import torch

from mmdiffkd.checkpoints import download
from mmdiffkd.checkpoints.download import cached_path, fetch
from mmdiffkd.errors import CheckpointError
from tests.serving import served

CONTENT = b'weights'
HASH = hashlib.sha256(CONTENT).hexdigest()[:8]
NAME = f'model_1x_coco-{HASH}.pth'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    return tmp_path / 'hub' / 'checkpoints'


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / 'served'
    path.mkdir()
    (path / NAME).write_bytes(CONTENT)
    (path / 'model.pth').write_bytes(CONTENT)
    return path


def files_in(cache):
    return [path.name for path in cache.rglob('*') if path.is_file()]


@pytest.mark.parametrize('name', [NAME, 'model.pth'])
def test_download_goes_to_the_cache_once(name, cache, folder, capfd):
    """And its progress bar only to a terminal."""
    with served(folder) as address:
        first = fetch(f'{address}/{name}')
        (folder / name).unlink()
        assert fetch(f'{address}/{name}') == first
        with pytest.raises(CheckpointError, match=r'other\.pth cannot be downloaded'):
            fetch(f'{address}/other.pth')
    assert first.read_bytes() == CONTENT
    assert files_in(cache) == [name]
    assert '%|' not in capfd.readouterr().err


def test_cache_is_torch_s_where_the_name_tells_the_contents(cache):
    assert cached_path(f'https://a.org/x/{NAME}?download=1') == cache / NAME
    paths = {cached_path(f'https://{host}.org/model.pth') for host in 'ab'}
    assert len(paths) == 2 and {path.name for path in paths} == {'model.pth'}
    # A date is no hash.
    assert cached_path('https://a.org/model-20220101.pth').parent.parent == cache


def test_download_with_another_hash_is_removed(cache, folder):
    (folder / NAME).write_bytes(b'something else')
    message = f'cannot be downloaded: .*hash.* "{HASH}"'
    with served(folder) as address, pytest.raises(CheckpointError, match=message):
        fetch(f'{address}/{NAME}')
    assert files_in(cache) == []


@pytest.mark.parametrize('address', ['http://localhost:port/a.pth', 'http://localhost:9/a b.pth'])
def test_address_that_cannot_be_used(cache, address):
    """Errors of HTTP are neither those of the system nor of values."""
    with pytest.raises(CheckpointError, match='cannot be downloaded'):
        fetch(address)


def test_home_folder(monkeypatch):
    monkeypatch.setenv('HOME', '/somewhere')
    assert str(fetch('~/a.pth')) == '/somewhere/a.pth'


def test_failure_of_another_process_ends_this_one(cache, folder, monkeypatch):
    """This one, which is not the first of its machine, downloads nothing."""
    monkeypatch.setenv('LOCAL_RANK', '1')
    monkeypatch.setattr(download, 'all_gather_object', lambda mine: [mine, 'disk full'])
    with pytest.raises(CheckpointError, match='a.pth cannot be downloaded: disk full'):
        fetch('http://127.0.0.1:9/a.pth')
    assert files_in(cache) == []
