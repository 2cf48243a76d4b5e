"""Keep the memory of CPU training in bounds."""

import ctypes

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdiffkd.registry import HOOKS


@HOOKS.register_module()
class TrimMemoryHook(Hook):
    """Returns freed memory to the system before validation, for training on a CPU.

    The data loading workers of validation are forked from the training process. What it has freed
    but kept for later, gigabytes of activations, would be theirs too, and turn into real copies
    as soon as training goes on. The counterpart on a GPU is mmengine's ``EmptyCacheHook``.
    """

    def before_val_epoch(self, runner: Runner) -> None:
        """Trim, where the C library can (glibc)."""
        trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
        if trim is not None:
            trim(0)
