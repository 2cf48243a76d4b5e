"""Whose batch statistics the batch norms use: those of one process or of all."""

import logging
from typing import Any, Optional

from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdiffkd.registry import MODEL_WRAPPERS


class BatchNormSwitch:
    """Has the batch norms of a module synchronised over processes, or not.

    A runner's ``sync_bn`` replaces all batch norms of its model. This one holds the module's own
    and puts them back, or does the same for this module alone. Parameters and buffers stay what
    they are, so that an optimizer or DDP that knows them notices nothing.

    Args:
        module: Whose norms to switch, as it was built.
    """

    def __init__(self, module: nn.Module) -> None:
        self._norms = {
            name: norm
            for name, norm in module.named_modules()
            if isinstance(norm, _BatchNorm) and not isinstance(norm, nn.SyncBatchNorm)
        }

    def __len__(self) -> int:
        return len(self._norms)

    def turn(self, module: nn.Module, on: bool) -> None:
        """Switch the norms of the module given at the beginning, or of a copy of it."""
        for name, own in self._norms.items():
            current = module.get_submodule(name)
            if on and not isinstance(current, nn.SyncBatchNorm):
                wanted = nn.SyncBatchNorm.convert_sync_batchnorm(current)
            elif not on and current is not own:
                wanted = own
                wanted._parameters.update(current._parameters)
                wanted._buffers.update(current._buffers)
            else:
                continue
            parent, _, attribute = name.rpartition('.')
            setattr(module.get_submodule(parent), attribute, wanted)


def can_synchronize(module: nn.Module) -> bool:
    """Whether there are several processes, and the module is on a GPU; torch has it there alone."""
    devices = {parameter.device.type for parameter in module.parameters()}
    return get_world_size() > 1 and 'cpu' not in devices


@MODEL_WRAPPERS.register_module()
class CPUDataParallel(MMDistributedDataParallel):
    """DDP over CPU processes, where neither torch nor mmcv synchronises batch norms.

    Synchronised norms become ordinary ones, with a warning.

    Args:
        module: The model.
        sync_bn: What the run's ``sync_bn`` asks for.
        **kwargs: Arguments of mmengine's wrapper.
    """

    def __init__(self, module: nn.Module, sync_bn: Optional[str] = None, **kwargs: Any) -> None:
        wanted = sync_bn is not None or any(map(_wants_synchronization, module.modules()))
        module = revert_sync_batchnorm(module)
        if wanted and get_world_size() > 1:
            print_log(
                'Batch norms use the statistics of each process, although they are to be '
                'synchronised: torch and mmcv do that on GPUs only.',
                'current',
                logging.WARNING,
            )
        super().__init__(module=module, **kwargs)


def _wants_synchronization(module: nn.Module) -> bool:
    return isinstance(module, nn.SyncBatchNorm) or getattr(module, 'sync_bn', None) is True
