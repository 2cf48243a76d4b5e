"""The process group of a run; tests/test_distributed trains in two processes."""

import os
import socket
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dist import get_world_size
from torch import multiprocessing

from mmdiffkd.apis import LostProcessError, process_group, processes
from mmdiffkd.apis.processes import communication_failed
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
    assert raised.value.__cause__ is error and communication_failed(error)
    other = RuntimeError('CUDA out of memory')
    with pytest.raises(RuntimeError) as raised, process_group(alone):
        raise other
    assert raised.value is other and not communication_failed(other)


def choose_in_rank(rank, folder):
    """Each process has a newest checkpoint of its own, and then none that can be used."""
    os.environ.update(RANK=str(rank), LOCAL_RANK='0', WORLD_SIZE='2', MASTER_ADDR='127.0.0.1')
    os.environ.update(MASTER_PORT=(folder / 'port').read_text())
    cfg = Config(dict(launcher='pytorch', resume='auto', work_dir=str(folder / f'work_{rank}')))
    with process_group(cfg):
        assert get_world_size() == 2
        choose_checkpoint(cfg)
        lines = [cfg.load_from, str(cfg.randomness.seed)]
        cfg.update(resume='auto', work_dir=str(folder / f'broken_{rank}'))
        try:
            choose_checkpoint(cfg)
        except CheckpointError as error:
            lines.append(str(error))
    (folder / f'rank_{rank}').write_text('\n'.join(lines))


def test_choice_of_the_main_process_is_everybody_s(tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    for rank in range(2):
        (tmp_path / f'work_{rank}').mkdir()
        meta = dict(epoch=1, iter=2, seed=10 + rank)
        file = tmp_path / f'work_{rank}' / 'epoch_1.pth'
        torch.save(dict(meta=meta, state_dict={}, optimizer={}), file)
    (tmp_path / 'broken_0').mkdir()
    (tmp_path / 'broken_0' / 'epoch_1.pth').write_bytes(b'nothing')
    with socket.create_server(('127.0.0.1', 0)) as server:
        (tmp_path / 'port').write_text(str(server.getsockname()[1]))
    multiprocessing.spawn(choose_in_rank, (tmp_path,), nprocs=2)
    texts = [Path(tmp_path, f'rank_{rank}').read_text() for rank in range(2)]
    assert texts[0] == texts[1]
    path, seed, error = texts[0].split('\n')
    assert path == str(tmp_path / 'work_0' / 'epoch_1.pth') and seed == '10'
    assert 'none of 1 files can be used' in error
