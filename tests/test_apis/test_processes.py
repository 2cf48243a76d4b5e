"""Processes of a run; tests/test_distributed starts some."""

import pytest
import torch
from mmengine.config import Config

from mmdiffkd.apis import LostProcessError, process_group
from mmdiffkd.errors import ConfigError

NCCL = (
    'NCCL error in: /pytorch/torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:3690, remote process '
    'exited or there was a network error\nLast error:\nsocketProgress: Connection closed by peer'
)


def alone():
    return process_group(Config(dict(launcher='none')))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(sync_bn='all'), "sync_bn must be 'torch', 'mmcv' or None, got 'all'"),
        (dict(env_cfg=dict(dist_cfg=dict(timeout='1h'))), r"timeout must be .* above 0, got '1h'"),
        (dict(launcher='pytorch'), '--launcher pytorch is for processes that torchrun starts'),
        (dict(env_cfg=dict(dist_cfg=dict(timeout=0))), 'timeout must be .* above 0, got 0'),
    ],
)
def test_wrong_settings(settings, message, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    with (
        pytest.raises(ConfigError, match=message),
        process_group(Config(dict(dict(launcher='none'), **settings))),
    ):
        pass


@pytest.mark.parametrize(
    ('error', 'reason'),
    [
        (
            RuntimeError(
                '[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:544] Connection closed by '
                'peer [127.0.0.1]:15276'
            ),
            r'Connection closed by peer \[127.0.0.1\]:15276; that',
        ),
        (
            torch.distributed.DistBackendError(NCCL),
            'NCCL error in: .* remote process exited or there was a network error; that',
        ),
        (
            torch.distributed.DistNetworkError('The client socket has timed out after 9ms.'),
            r'The client socket has timed out after 9ms \(env_cfg.dist_cfg.timeout .*\); that',
        ),
    ],
)
def test_what_backends_report_is_one_sentence(error, reason, monkeypatch):
    monkeypatch.setenv('RANK', '3')
    monkeypatch.setenv('WORLD_SIZE', '8')
    pattern = f'^rank 3 of 8: lost contact with another process of the run: {reason}'
    with pytest.raises(LostProcessError, match=pattern) as raised, alone():
        raise error
    assert '\n' not in str(raised.value) and raised.value.__cause__ is error


@pytest.mark.parametrize(
    'message',
    [
        'DDP expects same model across all ranks, but Rank 0 has 4 params, while rank 1 has '
        'inconsistent 2 params.',
        '[1]: params[2] in this process with sizes [5, 4] appears not to match sizes of the same '
        'param in process 0.',
    ],
)
def test_different_models_are_a_mistake_in_the_configs(message):
    with pytest.raises(ConfigError, match='the same on all machines') as raised, alone():
        raise RuntimeError(message)
    assert message in str(raised.value)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match='CUDA out of memory') as raised, alone():
        raise RuntimeError('CUDA out of memory')
    assert not isinstance(raised.value, LostProcessError)
