"""A run in several processes: how they start, and how it ends when one of them is lost."""

import os
from contextlib import contextmanager
from datetime import timedelta
from typing import Iterator, Optional

import torch
from mmengine.config import Config

from mmdiffkd.errors import ConfigError

# In what gloo says stands which of its lines failed; its exceptions have no type of their own.
_GLOO_LINE = '/gloo/'
# What DDP says when it compares the models of the processes.
_OTHER_MODEL = ('DDP expects same model', 'of the same param in process 0')


class LostProcessError(RuntimeError):
    """A process cannot go on because it no longer reaches the others of its run."""


@contextmanager
def process_group(cfg: Config) -> Iterator[None]:
    """Train or test inside the ``with`` block, in as many processes as the launcher has started.

    On GPUs mmengine starts the process group. Its start-up selects a GPU for each process and gives
    DDP a device id; where there is no GPU, the group is started here, with gloo.

    Args:
        cfg: With ``launcher``. For CPU processes its ``model_wrapper_cfg`` and ``sync_bn`` change.

    Raises:
        ConfigError: If ``sync_bn`` or ``env_cfg.dist_cfg.timeout`` is wrong, if no launcher has
            started the process, or if the processes have different models.
        LostProcessError: If another process ended or did not answer in time.
    """
    on_cpu = cfg.launcher != 'none' and not torch.cuda.is_available()
    timeout = _checked_timeout(cfg)
    _check_sync_bn(cfg)
    _check_launcher(cfg)
    try:
        if on_cpu:
            _start_cpu_group(cfg, timeout)
        yield
    except RuntimeError as error:
        if communication_failed(error):
            raise LostProcessError(_lost_process(str(error))) from error
        if any(words in str(error) for words in _OTHER_MODEL):
            raise ConfigError(
                f'{_this_process()}: its model is not that of the other processes: {error} Is the '
                f'config the same on all machines?'
            ) from error
        raise
    if on_cpu:
        # Its threads, left to the end of the interpreter, now and then abort the process. Not after
        # an error: the group would wait for the other processes.
        torch.distributed.destroy_process_group()


def communication_failed(error: BaseException) -> bool:
    """Whether an error says that a process could not reach the others of its run."""
    is_torch_s = isinstance(error, torch.distributed.DistError)
    return is_torch_s or (isinstance(error, RuntimeError) and _GLOO_LINE in str(error))


def _start_cpu_group(cfg: Config, timeout: Optional[timedelta]) -> None:
    if cfg.launcher != 'pytorch':
        raise SystemExit(
            f'--launcher {cfg.launcher} needs GPUs and this machine has none; start CPU processes '
            f'with tools/dist_train.sh (--launcher pytorch)'
        )
    torch.distributed.init_process_group('gloo', timeout=timeout)
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    wrapper.update(cfg.get('model_wrapper_cfg') or {})
    if wrapper['type'] == 'MMDistributedDataParallel':
        wrapper.update(type='mmdiffkd.CPUDataParallel', sync_bn=cfg.pop('sync_bn', None))
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)


def _checked_timeout(cfg: Config) -> Optional[timedelta]:
    """How long a process waits for the others; None is torch's own choice."""
    seconds = ((cfg.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout')
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds <= 0:
        raise ConfigError(
            f'env_cfg.dist_cfg.timeout must be a number of seconds above 0, got {seconds!r}'
        )
    return timedelta(seconds=seconds)


def _check_sync_bn(cfg: Config) -> None:
    if cfg.get('sync_bn') not in (None, 'torch', 'mmcv'):
        raise ConfigError(f"sync_bn must be 'torch', 'mmcv' or None, got {cfg.sync_bn!r}")


def _check_launcher(cfg: Config) -> None:
    if cfg.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise ConfigError(
            '--launcher pytorch is for processes that torchrun starts, as tools/dist_train.sh '
            'does; the environment has no RANK'
        )


def _lost_process(report: str) -> str:
    """What to tell the user for what a backend reports."""
    reason = report.partition('\n')[0].rstrip('.')
    if reason.startswith('[') and _GLOO_LINE in reason:
        reason = reason.partition('] ')[2]
    waited = ' (env_cfg.dist_cfg.timeout says how long it waits)' if _timed_out(reason) else ''
    return (
        f'{_this_process()}: lost contact with another process of the run: {reason}{waited}; '
        f'that process has ended or hangs, so look for its own last lines in the log, for the '
        f'"Root Cause" that torchrun prints, and in the log of its machine (out of memory?)'
    )


def _this_process() -> str:
    # Every launcher sets these; the process group itself may be what could not be made.
    return f'rank {os.environ.get("RANK", "0")} of {os.environ.get("WORLD_SIZE", "1")}'


def _timed_out(reason: str) -> bool:
    return any(words in reason.lower() for words in ('timed out', 'timeout'))
