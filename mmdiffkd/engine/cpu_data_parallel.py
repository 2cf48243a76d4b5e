"""DDP over CPU processes."""

import logging
from typing import Any, Optional

from mmengine.dist import get_world_size
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from torch import nn

from mmdiffkd.messages import tell


class CPUDataParallel(MMDistributedDataParallel):
    """DDP over CPU processes; synchronised batch norms become ordinary ones, with a warning.

    ``sync_bn`` is the value of that key in the config; the other arguments are mmengine's. Configs
    name this class by its path.
    """

    def __init__(self, module: nn.Module, sync_bn: Optional[str] = None, **kwargs: Any) -> None:
        wanted = sync_bn or any(isinstance(m, nn.SyncBatchNorm) for m in module.modules())
        if wanted and get_world_size() > 1:
            text = 'Batch norms use the statistics of each process: CPUs cannot synchronise them.'
            tell(text, logging.WARNING)
        super().__init__(module=revert_sync_batchnorm(module), **kwargs)
