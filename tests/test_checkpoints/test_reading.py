"""A file that carries code is refused before it runs, whichever way it comes into a run."""

import os

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from mmdiffkd.apis import train
from mmdiffkd.checkpoints.reading import load_file, weights_only
from mmdiffkd.checkpoints.weights import weights_of
from mmdiffkd.errors import CheckpointError
from tests.conftest import ToyModel
from tests.serving import Malicious, served
from tests.test_tools.conftest import run_tool_here
from tests.toy_run import FourImages, toy_run

REFUSED = r'was not read, because it (is damaged or )?holds more than weights'
OPT_OUT = r'give --trust-checkpoint, or set trust_checkpoint=True in the config'


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    # It runs compilers to ask for their versions.
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)


@pytest.fixture
def witness(tmp_path):
    return tmp_path / 'it_ran'


@pytest.fixture
def evil(tmp_path, witness):
    """A file that is a good checkpoint, too."""
    path = tmp_path / 'evil' / 'evil.pth'
    path.parent.mkdir()
    toy = MODELS.build(dict(type='ToyModel'))
    content = dict(state_dict=toy.state_dict(), meta=dict(epoch=0, iter=0), x=Malicious(witness))
    torch.save(content, path)
    return path


@MODELS.register_module()
class SelfLoadingToy(ToyModel):
    """Loads weights in its constructor, as some models of the hosts do."""

    def __init__(self, path, **kwargs):
        super().__init__(**kwargs)
        self.load_state_dict(torch.load(path, weights_only=False)['state_dict'])


def student(cfg, key, location, **keys):
    init = dict(type='Pretrained', checkpoint=location, **keys)
    cfg.model.student = {'type': 'PretrainedToy', key: init}


WAYS = dict(
    load_from=lambda cfg, file: cfg.update(load_from=file, custom_hooks=[dict(type='EMAHook')]),
    resume=lambda cfg, file: cfg.update(load_from=file, resume=True),
    init_cfg=lambda cfg, file: student(cfg, 'init_cfg', file),
    prefix=lambda cfg, file: student(cfg, 'backbone_init_cfg', file, prefix='backbone.'),
    constructor=lambda cfg, file: cfg.merge_from_dict(
        {'model.student': dict(type='SelfLoadingToy', path=file)}
    ),
)


@pytest.mark.parametrize('way', WAYS)
def test_file_for_the_student(way, evil, toy_config, witness, tmp_path):
    cfg = toy_run(toy_config, tmp_path / 'run')
    WAYS[way](cfg, str(evil))
    with pytest.raises(CheckpointError, match=f'{REFUSED}.*{OPT_OUT}'):
        train(cfg)
    assert not witness.exists()


@pytest.mark.parametrize('scheme', ['http', 'open-mmlab'])
def test_address_or_name_of_weights(scheme, evil, toy_config, witness, tmp_path, monkeypatch):
    with served(evil.parent) as address:
        url = f'{address}/{evil.name}'
        monkeypatch.setattr(mmengine_checkpoint, 'get_external_models', lambda: dict(model=url))
        cfg = toy_run(toy_config, tmp_path / 'run')
        location = url if scheme == 'http' else 'open-mmlab://model'
        student(cfg, 'backbone_init_cfg', location)
        with pytest.raises(CheckpointError, match=f'{REFUSED}.*{OPT_OUT}'):
            train(cfg)
    assert not witness.exists()


@pytest.mark.parametrize(
    ('tool', 'flags', 'opt_out'),
    [
        ('test', '{cfg} {file} --work-dir {out}', '--trust-checkpoint'),
        ('test', '{cfg} {file} --teacher --work-dir {out}', 'teacher.trust_checkpoint=True'),
        ('train', '{cfg} --resume {file} --work-dir {out}', '--trust-checkpoint'),
        ('export_student', '{file} {out}', '--trust-checkpoint'),
        ('analysis/noise_sweep', '{cfg} {file}', '--trust-checkpoint'),
    ],
)
def test_file_for_a_tool(tool, flags, opt_out, evil, toy_config, witness, tmp_path):
    """One line, which says how to read it all the same."""
    config = toy_run(toy_config, tmp_path / 'run')
    metric = dict(type='DumpResults', out_file_path='x.pkl')
    config.update(test_dataloader=config.train_dataloader, test_cfg={}, test_evaluator=metric)
    config.dump(tmp_path / 'config.py')
    values = dict(cfg=tmp_path / 'config.py', file=evil, out=tmp_path / 'out')
    output = run_tool_here(f'tools/{tool}.py', *flags.format(**values).split(), expect=1)
    (line,) = (line for line in output.splitlines() if line.startswith('error: '))
    assert f'could run code ({open.__module__}.open)' in line and opt_out in line
    assert not witness.exists()


def test_trusted_files_are_read(evil, toy_config, tmp_path, witness):
    cfg = toy_run(toy_config, tmp_path / 'run', trust_checkpoint=True)
    WAYS['load_from'](cfg, str(evil))
    train(cfg)
    assert witness.exists()


@DATASETS.register_module()
class PickledImages(FourImages):
    """A user's data, which are pickles of anything."""

    def __init__(self, path):
        torch.load(path, weights_only=False)


def test_data_of_the_user_are_read_as_the_user_reads_them(toy_config, evil, witness, tmp_path):
    cfg = toy_run(toy_config, tmp_path / 'run')
    cfg.train_dataloader.dataset = dict(type='PickledImages', path=str(evil))
    train(cfg)
    assert witness.exists()


def test_everything_is_as_before_afterwards(evil, witness, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    environment, allowed = dict(os.environ), {*torch.serialization.get_safe_globals()}
    with pytest.raises(CheckpointError, match=REFUSED), weights_only():
        load_file(evil, trust=True)
        witness.unlink()
        torch.load(evil, weights_only=False)
    assert not witness.exists()
    assert os.environ == environment
    assert {*torch.serialization.get_safe_globals()} == allowed
    CheckpointLoader.load_checkpoint(str(evil), 'cpu')
    assert witness.exists()


def test_training_checkpoint_of_mmengine_is_read(tmp_path):
    """Its log is in objects of mmengine."""
    hub = MessageHub.get_instance('test_checkpoint')
    hub.update_scalar('train/loss', 1.5)
    hub.update_scalar('train/loss', 2.5)
    path = tmp_path / 'epoch_3.pth'
    content = dict(
        message_hub=hub.state_dict(),
        rng=np.random.get_state(),
        number=np.float64(0.5),
    )
    torch.save(content, path)
    # A second time from what was read, as after resuming.
    for _ in range(2):
        read = load_file(path)
        assert read['number'] == 0.5
        assert np.array_equal(read['rng'][1], content['rng'][1])
        resumed = MessageHub('resumed')
        resumed.load_state_dict(read['message_hub'])
        buffer = resumed.get_scalar('train/loss')
        assert type(buffer) is HistoryBuffer
        assert buffer.statistics('mean') == 2 and buffer.statistics('current') == 2.5
        torch.save(read, path)


class Reference:
    """Unpickled as ``getattr`` of something."""

    def __init__(self, owner, name):
        self.arguments = owner, name

    def __reduce__(self):
        return getattr, self.arguments


def test_getattr_of_a_checkpoint_yields_nothing_else(tmp_path):
    """From a function's attributes one comes to all of Python. Nor is mmengine's config run."""
    path = tmp_path / 'model.pth'
    torch.save(dict(x=Reference(torch.FloatStorage, 'min')), path)
    with pytest.raises(CheckpointError, match=REFUSED):
        load_file(path)
    torch.save(dict(x=Reference(HistoryBuffer, '__init__'), meta=dict(config='1 / 0')), path)
    with weights_only():
        assert CheckpointLoader.load_checkpoint(str(path), 'cpu') == dict(x=None, meta={})


def test_safetensors(tmp_path):
    save_file = pytest.importorskip('safetensors.torch').save_file
    path = tmp_path / 'model.safetensors'
    save_file(dict(a=torch.ones(2)), path)
    assert torch.equal(weights_of(load_file(path))['a'], torch.ones(2))
    with weights_only():
        assert list(CheckpointLoader.load_checkpoint(str(path), 'cpu')) == ['a']


@pytest.mark.parametrize('content', [b'', b'text', None], ids=['empty', 'text', 'truncated'])
def test_files_that_are_no_checkpoints(content, tmp_path):
    path = tmp_path / 'model.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(1000))), path)
    path.write_bytes(path.read_bytes()[:1000] if content is None else content)
    with pytest.raises(CheckpointError, match=r'checkpoint .*model.pth. .*read, .* damaged'):
        load_file(path)
    torch.save([], path)
    with pytest.raises(CheckpointError, match='holds no weights but a list'):
        load_file(path)
    with pytest.raises(CheckpointError, match='checkpoint: no file'):
        load_file(tmp_path / 'nothing.pth')


def test_own_checkpoints_resume_without_opt_out(toy_config, tmp_path):
    """With averaged weights, the log's history and a scheduler that keeps a function."""
    scheduler = dict(type='OneCycleLR', eta_max=0.1, total_steps=8, by_epoch=False)
    changes = dict(custom_hooks=[dict(type='EMAHook')], param_scheduler=[scheduler])
    train(toy_run(toy_config, tmp_path / 'run', **changes))
    changes['train_cfg'] = dict(by_epoch=True, max_epochs=2)
    runner = train(toy_run(toy_config, tmp_path / 'run', resume=True, **changes))
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 4
