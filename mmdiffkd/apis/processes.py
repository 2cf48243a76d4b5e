"""A run in several processes: its process group, and the loss of a process."""

import os
from contextlib import contextmanager
from datetime import timedelta
from typing import Iterator

import torch
from mmengine.config import Config
from mmengine.dist import get_backend, init_dist, is_distributed
from mmengine.utils.dl_utils import set_multi_processing
from torch.distributed import DistError

from mmdiffkd.errors import ConfigError, UserError


class LostProcessError(UserError, RuntimeError):
    """A process that cannot go on because it no longer reaches the others of its run."""


@contextmanager
def process_group(cfg: Config) -> Iterator[None]:
    """Train or test inside the ``with`` block, in as many processes as the launcher has started.

    For processes on CPUs ``model_wrapper_cfg`` and ``sync_bn`` of the config change.

    Raises:
        ConfigError: If torchrun has not started the process though ``pytorch`` is the launcher, or
            if another launcher is given and there is no GPU.
        LostProcessError: If another process ended or did not answer in time. gloo, whose errors
            have no type of their own, raises a ``RuntimeError`` instead.
    """
    started_here = cfg.launcher != 'none' and not is_distributed()
    try:
        if started_here:
            _start(cfg)
        yield
    except DistError as error:
        lost = f'rank {os.environ.get("RANK", "0")}: lost contact with another process of the run'
        raise LostProcessError(
            f'{lost}, which has ended or hangs; look for its own last lines in the log: {error}'
        ) from error
    if started_here and get_backend() == 'gloo':
        # Its threads can abort a process that ends. After an error this would wait for the others.
        torch.distributed.destroy_process_group()


def _start(cfg: Config) -> None:
    env = cfg.get('env_cfg') or {}
    dist = env.get('dist_cfg') or {}
    if cfg.launcher == 'pytorch' and 'RANK' not in os.environ:
        what = '--launcher pytorch is for processes that torchrun starts, as tools/dist_train.sh'
        raise ConfigError(f'{what} does; the environment has no RANK')
    if torch.cuda.is_available():
        # In the order of mmengine's runner, which leaves out what is done already.
        set_multi_processing(**(env.get('mp_cfg') or {}), distributed=True)
        init_dist(cfg.launcher, **dist)
        return
    if cfg.launcher != 'pytorch':
        raise ConfigError(
            f'--launcher {cfg.launcher} needs GPUs and this machine has none; start CPU processes '
            f'with tools/dist_train.sh (--launcher pytorch)'
        )
    # mmengine's own start selects a GPU, and its wrapper gives DDP a device id.
    timeout = timedelta(seconds=dist['timeout']) if 'timeout' in dist else None
    torch.distributed.init_process_group('gloo', timeout=timeout)
    unused = cfg.get('find_unused_parameters', False)
    wrapper = dict(broadcast_buffers=False, find_unused_parameters=unused)
    wrapper.update(cfg.get('model_wrapper_cfg') or dict(type='MMDistributedDataParallel'))
    if wrapper.get('type', 'MMDistributedDataParallel') == 'MMDistributedDataParallel':
        kind = 'mmdiffkd.engine.cpu_data_parallel.CPUDataParallel'
        wrapper.update(type=kind, sync_bn=cfg.pop('sync_bn', None))
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
