"""Reading checkpoint files: complete, and without running their code."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import CheckpointLoader

from mmdiffkd.checkpoint import CheckpointError, fetch, load_file, weights_of


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def test_file_that_carries_code_is_refused_without_running_it(tmp_path):
    witness = tmp_path / 'witness'
    path = tmp_path / 'model.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(1)), extra=Malicious(witness)), path)
    with pytest.raises(CheckpointError, match='trust_checkpoint=True'):
        load_file(path)
    assert not witness.exists()
    load_file(path, trust=True)
    assert witness.exists()


class Reaching:
    """Pickled as ``getattr(owner, name)``."""

    def __init__(self, owner, name):
        self.arguments = owner, name

    def __reduce__(self):
        return getattr, self.arguments


@pytest.mark.parametrize(
    'arguments',
    [(HistoryBuffer, 'update'), (HistoryBuffer, '__init__'), (torch.FloatStorage, 'min')],
)
def test_attributes_are_not_given_out(arguments, tmp_path):
    """From a function's attributes one comes to all that Python has."""
    path = tmp_path / 'model.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(1)), extra=Reaching(*arguments)), path)
    with pytest.raises(CheckpointError, match='cannot be read as weights') as refused:
        load_file(path)
    assert f'it asks for {arguments[1]!r}' in str(refused.value.__cause__)


def test_training_checkpoint_of_mmengine_is_read(tmp_path):
    """It holds the log in objects of mmengine."""
    hub = MessageHub.get_instance('test_checkpoint')
    hub.update_scalar('train/loss', 1.5)
    hub.update_info('epoch', 3)
    path = tmp_path / 'epoch_3.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(2)), message_hub=hub.state_dict()), path)
    # Also by mmengine itself; see mmdiffkd.compat.
    for checkpoint in (load_file(path), CheckpointLoader.load_checkpoint(str(path), 'cpu')):
        assert torch.equal(checkpoint['state_dict']['a'], torch.ones(2))
        assert checkpoint['message_hub']['log_scalars']['train/loss'].current() == 1.5
        assert checkpoint['message_hub']['runtime_info'] == dict(epoch=3)


def test_names():
    weights = {'module.a': torch.ones(1), 'distill.pairs.x': torch.ones(1), 'version': '1.0'}
    for checkpoint in (weights, dict(state_dict=weights), dict(model=weights)):
        assert list(weights_of(checkpoint)) == ['a']


def test_truncated_file(tmp_path):
    path = tmp_path / 'model.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(1000))), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match='cannot be read as weights'):
        load_file(path)


def test_download_goes_to_the_cache_once(tmp_path, monkeypatch, capfd):
    """And its progress bar only to a terminal."""
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    served = tmp_path / 'served'
    served.mkdir()
    (served / 'model.pth').write_bytes(b'weights')
    handler = functools.partial(SimpleHTTPRequestHandler, directory=served)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}/model.pth'
        first = fetch(url)
        (served / 'model.pth').unlink()
        assert fetch(url) == first
        with pytest.raises(CheckpointError, match=r'other\.pth cannot be downloaded'):
            fetch(url.replace('model', 'other'))
        server.shutdown()
    assert first.read_bytes() == b'weights'
    assert '%|' not in capfd.readouterr().err
