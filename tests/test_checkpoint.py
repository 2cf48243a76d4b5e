"""Reading checkpoint files: complete, and without running their code."""

import pytest
import torch
from mmengine.logging import MessageHub

from mmdiffkd.checkpoint import CheckpointError, load_file, weights_of


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


def test_training_checkpoint_of_mmengine_is_read(tmp_path):
    """It holds the log in objects of mmengine, which are left out."""
    hub = MessageHub.get_instance('test_checkpoint')
    hub.update_scalar('train/loss', 1.5)
    hub.update_info('epoch', 3)
    path = tmp_path / 'epoch_3.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(2)), message_hub=hub.state_dict()), path)
    assert torch.equal(load_file(path)['state_dict']['a'], torch.ones(2))


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
