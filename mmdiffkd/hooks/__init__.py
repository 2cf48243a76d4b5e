"""What happens during training."""

from .interrupt import InterruptHook
from .memory import TrimMemoryHook

__all__ = ['InterruptHook', 'TrimMemoryHook']
