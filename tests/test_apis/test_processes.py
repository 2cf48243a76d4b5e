"""The process group of a run; tests/test_distributed trains in two processes."""

import pytest
import torch
from mmengine.config import Config

from mmdiffkd.apis import LostProcessError, process_group, processes
from mmdiffkd.checkpoints import resume
from mmdiffkd.checkpoints.resume import choose_checkpoint
from mmdiffkd.errors import CheckpointError, ConfigError


@pytest.mark.parametrize(
    ('launcher', 'message'),
    [
        ('pytorch', '--launcher pytorch is for processes that torchrun starts'),
        ('slurm', '--launcher slurm needs GPUs and this machine has none'),
    ],
)
def test_wrong_launcher(launcher, message, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ConfigError, match=message), process_group(Config(dict(launcher=launcher))):
        pass


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_group_of_gpus_is_there_before_anything_else(launcher, monkeypatch):
    """Smoke runs and --resume share files between processes before mmengine's runner is built."""
    monkeypatch.setenv('RANK', '0')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    calls = []
    for name in ('set_multi_processing', 'init_dist'):
        record = lambda *args, name=name, **kwargs: calls.append((name, *args, kwargs))  # noqa: E731
        monkeypatch.setattr(processes, name, record)
    env = dict(mp_cfg=dict(opencv_num_threads=0), dist_cfg=dict(backend='nccl', timeout=9))
    with process_group(Config(dict(launcher=launcher, env_cfg=env))):
        assert calls == [
            ('set_multi_processing', dict(opencv_num_threads=0, distributed=True)),
            ('init_dist', launcher, dict(backend='nccl', timeout=9)),
        ]


def test_lost_process(monkeypatch):
    monkeypatch.setenv('RANK', '3')
    alone = Config(dict(launcher='none'))
    error = torch.distributed.DistBackendError('NCCL error in: x.cpp\nConnection closed by peer')
    message = '^rank 3: lost contact with another'
    with pytest.raises(LostProcessError, match=message) as raised, process_group(alone):
        raise error
    assert raised.value.__cause__ is error


def test_choice_of_the_main_process_is_everybody_s(tmp_path, monkeypatch):
    """Its error, too."""
    sent = []

    def broadcast(choices):
        if resume.is_main_process():
            sent.append(choices[0])
        choices[0] = sent[-1]

    monkeypatch.setattr(resume, 'broadcast_object_list', broadcast)
    for rank in range(2):
        monkeypatch.setattr(resume, 'is_main_process', lambda rank=rank: rank == 0)
        folder = tmp_path / f'work_{rank}'
        folder.mkdir()
        meta = dict(epoch=1, iter=2, seed=10 + rank)
        torch.save(dict(meta=meta, state_dict={}, optimizer={}), folder / 'epoch_1.pth')
        cfg = Config(dict(resume='auto', work_dir=str(folder)))
        choose_checkpoint(cfg)
        assert cfg.load_from == str(tmp_path / 'work_0' / 'epoch_1.pth')
        assert cfg.randomness.seed == 10
    for rank in range(2):
        monkeypatch.setattr(resume, 'is_main_process', lambda rank=rank: rank == 0)
        with pytest.raises(CheckpointError, match="no file 'nothing_0.pth'"):
            choose_checkpoint(Config(dict(resume=f'nothing_{rank}.pth')))
