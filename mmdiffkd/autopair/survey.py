"""What every module of a model yields in one forward."""

import functools
import weakref
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from mmdiffkd.capture import wrapped_forward


@dataclass(frozen=True)
class TensorSpec:
    """What is kept of a tensor.

    Attributes:
        shape: Of the tensor, batch included.
        trains: Whether a gradient can flow into it.
    """

    shape: Tuple[int, ...]
    trains: bool


@dataclass
class ModuleRecord:
    """What one module yielded.

    Attributes:
        name: Dotted name; empty for the model itself.
        bases: Names of its class and of all that it derives from.
        calls: Per call its output, with a :class:`TensorSpec` in place of each tensor and the name
            of its type in place of anything else; lists are tuples.
        source: Name of the module whose output was its first input in the last call, dropout left
            out, or None if no module yielded that tensor as it is.
        finished: Place of its last call's end among all modules'; -1 if it was not called.
    """

    name: str
    bases: Tuple[str, ...]
    calls: List[Any] = field(default_factory=list)
    source: Optional[str] = None
    finished: int = -1


@contextmanager
def surveyed(model: nn.Module) -> Iterator[Dict[str, ModuleRecord]]:
    """Record what all modules of a model yield inside the ``with`` block.

    Args:
        model: The model that will run.

    Yields:
        Name to record of every module, in the order of ``named_modules``.
    """
    modules = dict(model.named_modules())
    records = {
        name: ModuleRecord(name, tuple(cls.__name__ for cls in type(module).__mro__))
        for name, module in modules.items()
    }
    recorder = _Recorder()
    with ExitStack() as wrapped:
        for name, module in modules.items():
            yields_own = not isinstance(module, (_DropoutNd, nn.Identity))
            wrap = recorder.recording(records[name], yields_own)
            wrapped.enter_context(wrapped_forward(module, wrap))
        yield records


def spec_of(value: Any) -> Any:
    """A module's output as :class:`ModuleRecord` keeps it."""
    if isinstance(value, Tensor):
        return TensorSpec(tuple(value.shape), value.requires_grad)
    if isinstance(value, (tuple, list)):
        return tuple(spec_of(item) for item in value)
    if isinstance(value, dict):
        return {key: spec_of(item) for key, item in value.items()}
    return type(value).__name__


class _Recorder:
    """Fills the records of one forward."""

    def __init__(self) -> None:
        self.finished = 0
        # By identity: which living tensor came out of which module last.
        self.producers: Dict[int, Tuple[weakref.ref, str]] = {}

    def recording(self, record: ModuleRecord, yields_own: bool) -> Callable[[Callable], Callable]:
        """A wrapper for a module's forward.

        Args:
            record: To fill.
            yields_own: Whether the module makes something new of its input.
        """

        def wrap(forward: Callable) -> Callable:
            @functools.wraps(forward)
            def recorded_forward(*args, **kwargs):
                given = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
                source = self._producer(given)
                output = forward(*args, **kwargs)
                record.source = source
                record.calls.append(spec_of(output))
                record.finished = self.finished
                self.finished += 1
                if yields_own and isinstance(output, Tensor):
                    self.producers[id(output)] = weakref.ref(output), record.name
                return output

            return recorded_forward

        return wrap

    def _producer(self, tensor: Optional[Tensor]) -> Optional[str]:
        reference, name = self.producers.get(id(tensor), (None, None))
        return name if reference is not None and reference() is tensor else None
