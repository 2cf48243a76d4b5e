"""DDP over CPU processes."""

import logging
from typing import Any, Optional

from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from torch import nn

from mmdiffkd.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class CPUDataParallel(MMDistributedDataParallel):
    """DDP over CPU processes, where neither torch nor mmcv synchronises batch norms.

    Synchronised norms become ordinary ones, with a warning.

    Args:
        module: Model to train.
        sync_bn: Value of ``sync_bn`` in the config of the run.
        **kwargs: Arguments of mmengine's wrapper.
    """

    def __init__(self, module: nn.Module, sync_bn: Optional[str] = None, **kwargs: Any) -> None:
        wanted = sync_bn or any(isinstance(m, nn.SyncBatchNorm) for m in module.modules())
        if wanted and get_world_size() > 1:
            print_log(
                'Batch norms use the statistics of each process, although they are to be '
                'synchronised: torch and mmcv do that on GPUs only.',
                'current',
                logging.WARNING,
            )
        super().__init__(module=revert_sync_batchnorm(module), **kwargs)
