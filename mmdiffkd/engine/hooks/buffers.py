"""Take back what a forward has changed of a model beside its weights."""

from typing import List

import torch
from torch import Tensor, nn


class BufferCopies:
    """Copies of a model's buffers, such as the running statistics of batch norms."""

    def __init__(self) -> None:
        self._buffers: List[Tensor] = []
        self._copies: List[Tensor] = []

    def take(self, model: nn.Module) -> None:
        """Copy all buffers as they are now."""
        buffers = list(model.buffers())
        # Batch norms may have been replaced since (SyncBN).
        if list(map(id, buffers)) != list(map(id, self._buffers)):
            self._buffers, self._copies = buffers, [buffer.clone() for buffer in buffers]
        elif buffers:
            torch._foreach_copy_(self._copies, buffers)

    @torch.no_grad()
    def put_back(self) -> None:
        """Give the buffers the values that they had when the copies were taken."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._copies)
