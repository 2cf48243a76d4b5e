"""A comparison of methods, mostly with trainings that are made up."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from mmdiffkd.apis import compare
from mmdiffkd.comparison.run import Run, RunFailed
from mmdiffkd.datasets.held_out import hold_out
from mmdiffkd.errors import ConfigError, UserError

from ..conftest import ToyModel
from ..toy_run import toy_run

ROOT = Path(__file__).parents[2]

# A training that takes no time. Its metric depends on seed, method and weight.
FAKE = """
import json, pathlib, sys
folder, text = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_text()
with open(folder / 'starts', 'a') as starts:
    starts.write(' '.join(sys.argv[3:]) + '\\n')
if 'broken' in folder.parts or 'weight=30.0' in text:
    sys.exit('Traceback (most recent call last):\\n  somewhere\\nValueError: it broke\\n\\nthe end')
value = int(folder.name.split('-')[1]) + 10 * ('pairs' in text) + 5 * ('weight=3.0' in text)
log = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
log.parent.mkdir(parents=True)
lines = [dict(loss=1.0, time=0.25, iter=1, step=1), {'toy/mean': 0.5 * value}, {}]
lines += [dict(loss=1.0, time=0.75, iter=2, step=2), {'toy/mean': value, 'time': 9.0}]
log.write_text(''.join(json.dumps(line) + '\\n' for line in lines))
"""
PAIR = """dict(p=dict(
    student='neck', teacher='neck', head=dict(type='AlignHead'), loss=dict(type='{}')))"""
METHODS = f"""
custom_imports = dict(imports=['an_own_loss'])
methods = dict(mine={PAIR.format('AnOwnLoss')}, broken={PAIR.format('NoLoss')})
"""
OWN_LOSS = """
from mmdiffkd.losses import WeightedDistance
from mmdiffkd.registry import MODELS


@MODELS.register_module()
class AnOwnLoss(WeightedDistance):
    def distance(self, refined, target):
        return (refined - target).abs().mean()
"""


@pytest.fixture
def files(tmp_path):
    """Arguments of a comparison of two methods of one's own."""

    def write(name, width):
        loader = toy_run({}, '').train_dataloader
        imports = dict(imports=['tests.toy_run'])
        evaluation = dict(val_dataloader=loader, val_evaluator=dict(type='MeanLogit'), val_cfg={})
        cfg = toy_run(dict(type='ToyModel', width=width), '', custom_imports=imports, **evaluation)
        cfg.merge_from_dict(dict(train_cfg=dict(max_epochs=4), optim_wrapper=dict(clip_grad=None)))
        for key in ('work_dir', 'experiment_name'):
            cfg.pop(key)
        path = tmp_path / f'{name}.py'
        path.write_text(Config(cfg.to_dict(), format_python_code=False).pretty_text)
        return str(path)

    (tmp_path / 'an_own_loss.py').write_text(OWN_LOSS)
    (tmp_path / 'methods.py').write_text(METHODS)
    return dict(
        student=write('student', 8),
        teacher=write('teacher', 16),
        teacher_checkpoint='random',
        methods_file=str(tmp_path / 'methods.py'),
        methods=('alone', 'mine', 'broken'),
        work_dir=str(tmp_path / 'work'),
        seeds=2,
    )


@pytest.fixture
def fake(monkeypatch):
    def command(run):
        return [sys.executable, '-c', FAKE, str(run.folder), str(run.config), *run.flags]

    monkeypatch.setattr(Run, '_command', command)
    monkeypatch.setattr(sys, 'path', [*sys.path])


def starts(files, method, seed, folder='.'):
    return Path(files['work_dir'], folder, method, f'seed-{seed}', 'starts').read_text().count('\n')


def test_a_failing_method_does_not_lose_the_others(files, fake, capsys):
    found = compare(**files, trust_checkpoint=True)
    assert found.failed and found.metric == 'toy/mean'
    assert found.values('alone') == {0: 0, 1: 1} and found.values('mine') == {0: 10, 1: 11}
    assert found.rows['broken'].error == 'ValueError: it broke' and not found.values('broken')
    result = found.rows['mine'].results[1]
    assert result['ms_per_step'] == 500 and result['seconds'] > 0
    assert '| broken' in capsys.readouterr().out
    folder = Path(files['work_dir'])
    assert json.loads((folder / 'comparison.json').read_text())['rows']['mine']['mean'] == 10.5
    assert (folder / 'mine/seed-0/starts').read_text() == '--trust-checkpoint\n'
    # What is finished is reused; another number of seeds changes nothing for it.
    found = compare(**{**files, 'seeds': 3}, trust_checkpoint=True)
    assert found.values('mine') == {0: 10, 1: 11, 2: 12}
    assert [starts(files, name, 0) for name in ('alone', 'mine', 'broken')] == [1, 1, 2]


def test_all_are_trained_alike(files, fake):
    options = {'model.student.width': 6, 'model.pairs.p.weight': 2.0, 'train_cfg.max_epochs': 5}
    compare(**files, cfg_options=options)
    alone, mine = (
        Config.fromfile(Path(files['work_dir'], name, 'seed-1/config/train.py'))
        for name in ('alone', 'mine')
    )
    assert alone.model == mine.model.student == dict(type='ToyModel', width=6)
    assert mine.model.pairs.p.weight == 2 and mine.randomness.seed == alone.randomness.seed == 1
    assert mine.custom_imports.imports == ['tests.toy_run', 'an_own_loss']
    differing = {key for key in mine if mine[key] != alone.get(key)}
    # The hooks that draw and measure would make the methods slower than they are.
    assert differing == {'model', 'custom_imports'} and alone.keys() == mine.keys()
    assert alone.train_cfg.max_epochs == 5 and alone.optim_wrapper.clip_grad.max_norm == 35


def test_another_config_is_an_error(files, fake):
    compare(**files)
    with pytest.raises(ConfigError, match=r'alone/seed-0 has a run with another.*max_epochs=4'):
        compare(**files, cfg_options={'train_cfg.max_epochs': 5})


def test_weights_are_tried_on_other_seeds(files, fake, monkeypatch):
    monkeypatch.setattr('mmdiffkd.comparison.configs.hold_out', lambda cfg: cfg.pop('val_cfg'))
    found = compare(**files, weights=[0.3, 3, 30], tuning_seeds=2)
    # The largest weight cannot be trained with, which is no error of the method.
    assert found.rows['mine'].tried == {0.3: 1010.5, 3: 1015.5} and found.rows['mine'].factor == 3
    assert found.rows['mine'].error is None and found.values('mine') == {0: 15, 1: 16}
    assert starts(files, 'mine/weight-0.3', 1001, 'tuning') == 1
    path = Path(files['work_dir'], 'tuning/mine/weight-3/seed-1000/config/train.py')
    assert 'val_cfg' not in Config.fromfile(path)
    # Where all factors fail there is nothing to train in the end.
    assert found.rows['broken'].error == 'ValueError: it broke'
    assert not Path(files['work_dir'], 'broken').exists()
    single = compare(**files, weights=[3])
    assert single.values('mine') == {0: 15, 1: 16} and single.rows['mine'].tried == {}


def test_runs_without_a_metric(files, monkeypatch, capsys):
    """The times of the teacher's test are none."""
    code = """if True:
        import json, pathlib, sys
        path = pathlib.Path(sys.argv[1], '20260101', '20260101_000000.json')
        path.parent.mkdir()
        path.write_text(json.dumps(dict(each=[1.0], data_time=1.0, time=2.0)))"""
    monkeypatch.setattr(Run, '_command', lambda run: [sys.executable, '-c', code, str(run.folder)])
    assert Run('teacher', Path(files['work_dir']), '', 'test').perform()['metrics'] == {}
    monkeypatch.setattr('mmdiffkd.comparison.configs.hold_out', lambda cfg: None)
    monkeypatch.setattr(Run, 'perform', lambda run: dict(metrics={}, seconds=None))
    files.update(methods=['alone', 'mine'], weights=[1, 3], tuning_seeds=1)
    found = compare(**files)
    assert found.metric is None and found.rows['mine'].factor == 1.0
    out = capsys.readouterr().out
    assert 'None' not in out
    cells = [line.split('|')[1:4] for line in out.splitlines() if line.startswith('| alone')]
    assert [cell.strip() for cell in cells[0]] == ['alone', '', '2']


def test_two_processes_never_write_to_one_run(tmp_path, monkeypatch):
    """The process of a comparison that was killed goes on, and the next one waits for it."""
    code = 'import time; print("begin", flush=True); time.sleep(1); exit("ValueError: end")'
    monkeypatch.setattr(Run, '_command', lambda run: [sys.executable, '-c', code])
    run, console = Run('a run', tmp_path, 'a = 1'), tmp_path / 'console.log'
    child = os.fork()
    if child == 0:
        try:
            run.perform()
        finally:
            os._exit(1)
    while not console.is_file() or not console.read_text():
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with pytest.raises(RunFailed, match='ValueError: end'):
        run.perform()
    assert console.read_text().split() == ['begin', 'ValueError:', 'end'] * 2


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        (dict(methods=['alone', 'mien']), "no method 'mien'; did you mean 'mine'"),
        (dict(methods=['alone', 'alone']), 'must name each method once'),
        (dict(teacher_checkpoint='nowhere.pth'), 'no file .*nowhere.pth'),
        (dict(seeds=0), 'must be above 0'),
        (dict(no_validate=True), '--no-validate'),
        (dict(launcher='slurm'), 'need --launcher pytorch'),
        (dict(gpus=2), 'need --launcher pytorch'),
        (dict(metric='mAP'), "no metric 'mAP'.*toy/mean"),
    ],
)
def test_mistakes(files, fake, changes, said):
    with pytest.raises(UserError, match=said):
        compare(**{**files, **changes})


def test_a_method_of_a_taken_name(files):
    Path(files['methods_file']).write_text('methods = dict(kd=dict())')
    with pytest.raises(ConfigError, match="'kd' cannot name"):
        compare(**files)


@DATASETS.register_module()
class Numbers(BaseDataset):
    def load_data_list(self):
        return [dict(number=number) for number in range(10)]


def test_a_fifth_is_held_out():
    def loader(**more):
        return dict(dataset=dict(type='Numbers', pipeline=[], **more))

    cfg = Config(dict(train_dataloader=loader(), val_dataloader=loader(), val_evaluator={}))
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=3, **cfg.train_dataloader)
    cfg.val_dataloader.dataset.pipeline = [lambda data: dict(data, validated=True)]
    hold_out(cfg)
    rest = DATASETS.build(cfg.train_dataloader.dataset)
    held = DATASETS.build(cfg.val_dataloader.dataset)
    assert (len(rest), len(held)) == (24, 2)
    trained, validated = ({each[i]['number'] for i in range(len(each))} for each in (rest, held))
    assert trained | validated == {*range(10)} and not trained & validated
    assert held[0]['validated'] and 'validated' not in rest[0]


@pytest.mark.slow
def test_killed_and_started_again(files):
    """With real trainings: an interrupted one goes on, and the table has what the logs say."""
    files.update(seeds=1, teacher_checkpoint=str(Path(files['teacher']).with_suffix('.pth')))
    torch.save(ToyModel(width=16).state_dict(), files['teacher_checkpoint'])
    flags = [f'--{key.replace("_", "-")}={files[key]}' for key in files if key != 'student']
    flags[[flag[:10] for flag in flags].index('--methods=')] = '--methods=alone,mine,broken'
    command = [sys.executable, 'tools/compare.py', files['student'], *flags]
    command += ['--cfg-options', 'train_cfg.max_epochs=100', 'default_hooks.checkpoint=None']
    environment = {**os.environ, 'PYTHONPATH': '.', 'OMP_NUM_THREADS': '1'}
    folder = Path(files['work_dir'])
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    log = folder / 'mine/seed-0/console.log'
    while not log.is_file() or 'ms per step' not in log.read_text():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert 'the same command goes on' in process.communicate()[0] and process.returncode == 130
    assert not (folder / 'mine/seed-0/result.json').exists()
    assert [*folder.glob('mine/seed-0/interrupted_iter_*.pth')]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1, ended.stderr
    assert 'alone, seed 0: finished before' in ended.stdout
    assert 'NoLoss' in ended.stdout
    assert 'Going on after' in log.read_text()
    content = json.loads((folder / 'comparison.json').read_text())
    assert isinstance(content['teacher'], float)
    for method in ('alone', 'mine'):
        for seed, value in content['rows'][method]['seeds'].items():
            logs = sorted(folder.glob(f'{method}/seed-{seed}/*/vis_data/scalars.json'))
            lines = [json.loads(line) for line in logs[-1].read_text().splitlines()]
            assert [line['toy/mean'] for line in lines if 'toy/mean' in line][-1] == value
