"""What the benchmarks measure with: times by part, bytes kept for backward, operations."""

import time
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def device_name(device: torch.device) -> str:
    """What ran: the GPU's name, or the number of CPU threads."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'CPU, {torch.get_num_threads()} threads'


class Stopwatch:
    """Adds up the milliseconds of named parts of a step.

    On a GPU, marks in its queue of work are timed: nothing waits, so the parts run as they do
    without a stopwatch.

    Args:
        device: Where the parts run.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == 'cuda'
        self._parts: List[Tuple[str, Any, Any]] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of a ``with`` block for part ``name``."""
        start = self._mark()
        try:
            yield
        finally:
            self._parts.append((name, start, self._mark()))

    def milliseconds(self) -> Dict[str, float]:
        """The sum of each part; waits until the GPU has done them."""
        if self._on_gpu:
            torch.cuda.synchronize()
        totals: Dict[str, float] = {}
        for name, start, end in self._parts:
            elapsed = start.elapsed_time(end) if self._on_gpu else 1000 * (end - start)
            totals[name] = totals.get(name, 0.0) + elapsed
        return totals

    def _mark(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


@contextmanager
def wrapped(owner: object, method: str, wrap: Callable[[Callable], Callable]) -> Iterator[None]:
    """Put a wrapper around a method of one object, inside the ``with`` block."""
    setattr(owner, method, wrap(getattr(owner, method)))
    try:
        yield
    finally:
        delattr(owner, method)


class KeptForBackward:
    """Counts the bytes that autograd keeps between forward and backward.

    Used as a context manager around a forward. A storage that several operations keep counts
    once; parameters do not count, they are there anyway. The number follows from shapes and
    code alone, so it is the same in every run.

    Args:
        parameters: Tensors that do not count.

    Attributes:
        num_bytes: The count, after the block.
    """

    def __init__(self, parameters: Iterable[Tensor] = ()) -> None:
        self.num_bytes = 0
        self._ignored = {_storage_id(parameter) for parameter in parameters}
        self._kept: List[Tensor] = []
        self._hooks = ExitStack()

    def __enter__(self) -> 'KeptForBackward':
        self._hooks.enter_context(saved_tensors_hooks(self._keep, lambda tensor: tensor))
        return self

    def _keep(self, tensor: Tensor) -> Tensor:
        # Held until the block ends: a freed storage's address could be given to another. Detached,
        # because an operation that kept its own output would keep itself alive.
        self._kept.append(tensor.detach())
        return self._kept[-1]

    def __exit__(self, *error) -> None:
        self._hooks.close()
        sizes = {_storage_id(kept): kept.untyped_storage().nbytes() for kept in self._kept}
        self._kept = []
        self.num_bytes = sum(size for key, size in sizes.items() if key not in self._ignored)


def _storage_id(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class _FlopCounter(TorchDispatchMode):
    """torch's FlopCounterMode without its tracking of modules.

    That hooks into gradients, which does not go with a backward that runs a forward again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        count = flop_registry.get(function._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=output)
        return output


def count_flops(function: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in ``function()``.

    A multiply-add is two operations. What runs inside compiled code is not seen.
    """
    with _FlopCounter() as counter:
        function()
    return counter.total


@contextmanager
def synchronisation_is_an_error() -> Iterator[None]:
    """Have CUDA raise where the host would wait for the device."""
    torch.cuda.set_sync_debug_mode('error')
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode('default')
