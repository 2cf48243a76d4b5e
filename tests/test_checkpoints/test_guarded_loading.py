"""Whatever way a file that carries code comes into a run, it is refused and does not run."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from mmdiffkd.apis import build_runner, train
from mmdiffkd.checkpoints.guarded_loading import guarded_loading
from mmdiffkd.errors import CheckpointError
from tests.serving import Malicious, served
from tests.toy_run import toy_run

ROOT = Path(__file__).parents[1]
REFUSED = r'was not read, because it holds more than weights, which could run code: \w*io\.open'
RUN_OPT_OUT = r'give --trust-checkpoint, or set trust_checkpoint=True in the config'


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A cache of one's own."""
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
    folder = tmp_path / 'evil'
    folder.mkdir()
    path = folder / 'evil.pth'
    toy = MODELS.build(dict(type='ToyModel'))
    content = dict(state_dict=toy.state_dict(), meta=dict(epoch=0, iter=0), x=Malicious(witness))
    torch.save(content, path)
    return path


@pytest.fixture(params=['path', 'url'])
def location(request, evil):
    """The file's path, and its address on a web server."""
    if request.param == 'path':
        yield str(evil)
        return
    with served(evil.parent) as address:
        yield f'{address}/{evil.name}'


def as_load_from(cfg, location):
    cfg.load_from = location


def as_load_from_with_ema(cfg, location):
    cfg.load_from = location
    cfg.custom_hooks = [dict(type='EMAHook')]


def as_resumed(cfg, location):
    cfg.load_from, cfg.resume = location, True


def as_the_latest(cfg, location):
    cfg.resume = True
    Path(cfg.work_dir).mkdir()
    Path(cfg.work_dir, 'last_checkpoint').write_text(location)


def as_init_of_the_student(cfg, location):
    cfg.model.student = dict(
        type='PretrainedToy', init_cfg=dict(type='Pretrained', checkpoint=location)
    )


def as_init_of_the_backbone(cfg, location):
    init_cfg = dict(type='Pretrained', checkpoint=location)
    cfg.model.student = dict(type='PretrainedToy', backbone_init_cfg=init_cfg)


def as_init_with_a_prefix(cfg, location):
    init_cfg = dict(type='Pretrained', checkpoint=location, prefix='backbone.')
    cfg.model.student = dict(type='PretrainedToy', backbone_init_cfg=init_cfg)


WAYS = [
    as_load_from,
    as_load_from_with_ema,
    as_resumed,
    as_the_latest,
    as_init_of_the_student,
    as_init_of_the_backbone,
    as_init_with_a_prefix,
]


def refuse(way, location, toy_config, witness, tmp_path):
    cfg = toy_run(toy_config, tmp_path / 'run')
    way(cfg, location)
    with pytest.raises(CheckpointError, match=f'{REFUSED}.*{RUN_OPT_OUT}'):
        train(cfg)
    assert not witness.exists()


@pytest.mark.parametrize('way', WAYS, ids=lambda way: way.__name__[3:])
def test_file_for_the_student(way, evil, toy_config, witness, tmp_path):
    refuse(way, str(evil), toy_config, witness, tmp_path)


@pytest.mark.parametrize('way', [as_load_from, as_init_of_the_backbone])
def test_url_for_the_student(way, evil, toy_config, witness, tmp_path):
    with served(evil.parent) as address:
        refuse(way, f'{address}/{evil.name}', toy_config, witness, tmp_path)


@pytest.mark.parametrize('scheme', ['torchvision', 'open-mmlab', 'open-mmlab file', 'mmcls'])
def test_name_of_a_library_s_weights(scheme, evil, toy_config, witness, tmp_path, monkeypatch):
    names = dict.fromkeys(('get_torchvision_models', 'get_external_models', 'get_mmcls_models'))
    with served(evil.parent) as address:
        url = str(evil) if scheme == 'open-mmlab file' else f'{address}/{evil.name}'
        for name in names:
            monkeypatch.setattr(mmengine_checkpoint, name, lambda: dict(model=url))
        cfg = toy_run(toy_config, tmp_path / 'run')
        as_init_of_the_backbone(cfg, f'{scheme.partition(" ")[0]}://model')
        with pytest.raises(CheckpointError, match=f'{REFUSED}.*{RUN_OPT_OUT}'):
            train(cfg)
    assert not witness.exists()


def test_file_for_the_teacher(location, toy_config, witness):
    toy_config['teacher']['checkpoint'] = location
    with pytest.raises(CheckpointError, match=f'{REFUSED}.*teacher.trust_checkpoint=True'):
        MODELS.build(toy_config)
    assert not witness.exists()


def test_published_file_for_the_teacher(evil, toy_config, witness, monkeypatch):
    teacher = toy_config['teacher']
    with served(evil.parent) as address:
        index = Config(dict(model=teacher['config'], model_path=f'{address}/{evil.name}'))
        for module in ('build', 'teacher'):
            name = f'mmdiffkd.models.{module}.load_config'
            monkeypatch.setattr(name, lambda *_, **__: index)
        teacher.update(config='mmdet::toy/toy.py', checkpoint='zoo')
        with pytest.raises(CheckpointError, match=f'{REFUSED}.*teacher.trust_checkpoint=True'):
            MODELS.build(toy_config)
    assert not witness.exists()


def tool(name):
    """A tool as a module."""
    path = ROOT / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    'flags',
    [
        ['test', '{cfg}', '{file}', '--work-dir', '{out}'],
        ['test', '{cfg}', '{file}', '--teacher', '--work-dir', '{out}'],
        ['train', '{cfg}', '--resume', '{file}', '--work-dir', '{out}'],
        ['export_student', '{file}', '{out}'],
        ['analysis/noise_sweep', '{cfg}', '{file}'],
    ],
)
def test_file_for_a_tool(flags, location, toy_config, witness, tmp_path, monkeypatch, capsys):
    """One line, which says how to read it all the same."""
    config = toy_run(toy_config, tmp_path / 'run')
    loader = config.train_dataloader
    config.update(
        test_dataloader=loader,
        test_cfg={},
        test_evaluator=dict(type='DumpResults', out_file_path='x.pkl'),
    )
    config.dump(tmp_path / 'config.py')
    values = dict(cfg=tmp_path / 'config.py', file=location, out=tmp_path / 'out')
    monkeypatch.setattr(sys, 'argv', [flag.format(**values) for flag in flags])
    with pytest.raises(SystemExit) as status:
        tool(flags[0]).main()
    assert status.value.code == 1
    # The logger may write there, too.
    (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith('error: '))
    assert 'holds more than weights' in line
    opt_out = 'teacher.trust_checkpoint=True' if '--teacher' in flags else '--trust-checkpoint'
    assert opt_out in line
    assert not witness.exists()


def test_config_in_a_checkpoint_is_not_run(tmp_path, witness, monkeypatch, capsys):
    """It is Python for mmengine."""
    code = f"model = dict(type='ToyModel')\nopen({str(witness)!r}, 'w')\n"
    torch.save(dict(state_dict=dict(a=torch.ones(1)), meta=dict(cfg=code)), tmp_path / 'a.pth')
    monkeypatch.setattr(sys, 'argv', ['', str(tmp_path / 'a.pth'), str(tmp_path / 'out.pth')])
    with pytest.raises(SystemExit):
        tool('export_student').main()
    assert 'the config in it does not consist of plain values' in capsys.readouterr().err
    assert not witness.exists()


def test_config_in_a_checkpoint_is_not_run_on_resuming(toy_config, tmp_path, witness):
    """Its older name is one that mmengine's runner reads."""
    train(toy_run(toy_config, tmp_path / 'run'))
    path = tmp_path / 'run' / 'epoch_1.pth'
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['meta']['config'] = f"open({str(witness)!r}, 'w')"
    torch.save(checkpoint, path)
    cfg = toy_run(toy_config, tmp_path / 'run', train_cfg=dict(by_epoch=True, max_epochs=2))
    cfg.load_from, cfg.resume = str(path), True
    train(cfg)
    assert not witness.exists()


class Started(Hook):
    def before_train(self, runner):
        self.epoch = runner.epoch
        self.losses = len(runner.message_hub.get_scalar('train/loss').data[0])


def test_own_checkpoints_resume_without_opt_out(toy_config, tmp_path):
    """With averaged weights, the log's history and a scheduler that keeps a function."""
    changes = dict(
        custom_hooks=[dict(type='EMAHook')],
        param_scheduler=[dict(type='OneCycleLR', eta_max=0.1, total_steps=8, by_epoch=False)],
    )
    train(toy_run(toy_config, tmp_path / 'run', **changes))
    changes['train_cfg'] = dict(by_epoch=True, max_epochs=2)
    runner = build_runner(toy_run(toy_config, tmp_path / 'run', resume=True, **changes))
    started = Started()
    runner.register_hook(started)
    runner.train()
    assert (started.epoch, started.losses) == (1, 2)
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 4


@pytest.mark.parametrize('way', [as_load_from, as_init_of_the_student])
def test_opt_out_of_the_run(way, evil, toy_config, tmp_path, witness):
    cfg = toy_run(toy_config, tmp_path / 'run', trust_checkpoint=True)
    way(cfg, str(evil))
    train(cfg)
    assert witness.exists()


def test_opt_out_is_yes_or_no(toy_config, tmp_path):
    with pytest.raises(ValueError, match=r"trust_checkpoint must be True or False, got 'yes'"):
        build_runner(toy_run(toy_config, tmp_path, trust_checkpoint='yes'))


def test_everything_is_as_before_afterwards(evil, witness):
    owners = [(torch, 'load'), (CheckpointLoader, 'load_checkpoint')]
    owners += [
        (mmengine_checkpoint, name)
        for name in ('load_from_http', 'load_state_dict', '_load_checkpoint_with_prefix')
    ]
    before = [vars(owner)[name] for owner, name in owners]
    allowed = {*torch.serialization.get_safe_globals()}
    with pytest.raises(CheckpointError), guarded_loading():
        assert [vars(owner)[name] for owner, name in owners] != before
        torch.load(evil, weights_only=False)
    assert [vars(owner)[name] for owner, name in owners] == before
    assert {*torch.serialization.get_safe_globals()} == allowed
    torch.load(evil, weights_only=False)
    assert witness.exists()
