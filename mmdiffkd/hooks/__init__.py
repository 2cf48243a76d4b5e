"""What happens during training."""

from .interrupt import InterruptHook

__all__ = ['InterruptHook']
