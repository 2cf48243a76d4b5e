"""Reading checkpoint files: complete, and without running their code."""

import sys

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OneCycleLR
from mmengine.runner import CheckpointLoader

from mmdiffkd.checkpoints.guarded_loading import guarded_loading
from mmdiffkd.checkpoints.weights import load_file, load_strictly, weights_of
from mmdiffkd.errors import CheckpointError
from tests.serving import Malicious


def test_file_that_carries_code_is_refused_without_running_it(tmp_path):
    witness = tmp_path / 'witness'
    path = tmp_path / 'model.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(1)), extra=Malicious(witness)), path)
    with pytest.raises(CheckpointError, match='holds more than weights.*io.open.*trust it'):
        load_file(path, opt_out='trust it')
    assert not witness.exists()
    load_file(path, trust=True)
    assert witness.exists()


def test_training_checkpoint_of_mmengine_is_read(tmp_path):
    """Its log is in objects of mmengine, and a scheduler's state refers to a function."""
    hub = MessageHub.get_instance('test_checkpoint')
    hub.update_scalar('train/loss', 1.5)
    hub.update_scalar('train/loss', 2.5)
    hub.update_info('epoch', 3)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = OneCycleLR(optimizer, eta_max=0.1, total_steps=10)
    path = tmp_path / 'epoch_3.pth'
    content = dict(
        state_dict=dict(a=torch.ones(2)),
        message_hub=hub.state_dict(),
        param_schedulers=[scheduler.state_dict()],
        rng=np.random.get_state(),
    )
    torch.save(content, path)
    # A second time from what was read, as after resuming.
    for _ in range(2):
        read = load_file(path)
        assert torch.equal(read['state_dict']['a'], torch.ones(2))
        assert read['param_schedulers'] == content['param_schedulers']
        assert np.array_equal(read['rng'][1], content['rng'][1])
        resumed = MessageHub('resumed')
        resumed.load_state_dict(read['message_hub'])
        buffer = resumed.get_scalar('train/loss')
        assert type(buffer) is HistoryBuffer
        assert buffer.statistics('mean') == 2 and buffer.statistics('current') == 2.5
        assert resumed.get_info('epoch') == 3
        torch.save(read, path)


def test_mmengine_reads_its_own_training_checkpoint(tmp_path):
    """See mmdiffkd.compat."""
    hub = MessageHub.get_instance('test_mmengine_reads')
    hub.update_scalar('train/loss', 1.5)
    path = tmp_path / 'epoch_3.pth'
    torch.save(dict(message_hub=hub.state_dict()), path)
    read = CheckpointLoader.load_checkpoint(str(path), 'cpu')
    assert read['message_hub']['log_scalars']['train/loss'].current() == 1.5


class Reference:
    """Unpickled as ``getattr`` of something."""

    def __init__(self, owner, name):
        self.arguments = owner, name

    def __reduce__(self):
        return getattr, self.arguments


@pytest.mark.parametrize(
    ('owner', 'name'),
    [
        (HistoryBuffer, '__init__'),
        (HistoryBuffer, '__globals__'),
        (HistoryBuffer, 'register_statistics'),
        (torch.FloatStorage, 'min'),
    ],
)
def test_getattr_of_a_checkpoint_yields_nothing_else(owner, name, tmp_path):
    """From a function's attributes one comes to all that Python has."""
    torch.save(dict(x=Reference(owner, name)), tmp_path / 'model.pth')
    with pytest.raises(CheckpointError, match='Can only read known functions'):
        load_file(tmp_path / 'model.pth')


def test_names():
    weights = {'module.a': torch.ones(1), 'distill.pairs.x': torch.ones(1), 'version': '1.0'}
    for checkpoint in (weights, dict(state_dict=weights), dict(model=weights)):
        assert list(weights_of(checkpoint)) == ['a']


def test_weights_below_a_prefix():
    """A part of the names, or of the keys of the file; what is there is said."""
    one, two = torch.ones(1), torch.ones(2)
    parts = dict(student={'net.a': one}, teacher={'net.a': two}, optimizer=dict(state={0: one}))
    assert weights_of(parts, 'teacher.net') == dict(a=two)
    assert list(weights_of(parts, 'teacher')) == ['net.a']
    assert weights_of(dict(state_dict={'net.a': one, 'b': two}), 'net.') == dict(a=one)
    both = dict(state_dict=dict(a=one), state_dict_ema=dict(a=two))
    assert weights_of(both) == dict(a=one) and weights_of(both, 'state_dict_ema') == dict(a=two)
    with pytest.raises(CheckpointError, match="below 'optimizer', 'student', 'teacher'"):
        weights_of(parts)
    with pytest.raises(CheckpointError, match="prefix='ema'; there are 'a'"):
        weights_of(both, 'ema')


def test_safetensors(tmp_path, monkeypatch):
    """Read by all that reads weights; without the package one sentence says what to install."""
    save_file = pytest.importorskip('safetensors.torch').save_file
    path = tmp_path / 'model.safetensors'
    save_file(dict(a=torch.ones(2)), path)
    for trust in (False, True):
        assert torch.equal(weights_of(load_file(path, trust))['a'], torch.ones(2))
    with guarded_loading():
        assert list(CheckpointLoader.load_checkpoint(str(path), 'cpu')) == ['a']
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match='cannot be read as weights'):
        load_file(path)
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(CheckpointError, match='pip install safetensors'):
        load_file(path)


def test_truncated_file(tmp_path):
    path = tmp_path / 'model.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(1000))), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match='cannot be read as weights'):
        load_file(path)


def test_ignored_keys_are_said():
    """Once, if they leave weights random; a teacher that has none of its weights is refused."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    weights = {key: value for key, value in model.state_dict().items() if key.startswith('0')}
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmdiffkd.checkpoints.weights.print_log', lambda text, *_: lines.append(text))
        load_strictly(model, weights, 'checkpoint x', ['^1'])
    assert lines == ['checkpoint x: 2 weights stay random: 1.bias, 1.weight. ignore_keys allows it']
    with pytest.raises(CheckpointError, match='none of the weights of Sequential'):
        load_strictly(model, {'other': torch.ones(1)}, 'checkpoint x', ['.'])


def test_what_a_model_keeps_beside_its_tensors():
    """torch's extra state may be any object."""

    class Counting(torch.nn.Linear):
        steps = 0

        def get_extra_state(self):
            return dict(steps=self.steps)

        def set_extra_state(self, state):
            self.steps = state['steps']

    trained, loaded = Counting(2, 2), Counting(2, 2)
    trained.steps = 3
    load_strictly(loaded, weights_of(dict(state_dict=trained.state_dict())), 'it')
    assert loaded.steps == 3
