"""Capture: from module paths to the tensors of one forward."""

import copy
import functools
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from torch import Tensor, nn

from mmdiffkd.capture.path import FeaturePath, locate_argument, resolve_path
from mmdiffkd.errors import ConfigError


class AllCaptured(BaseException):
    """Leaves a forward whose rest nobody needs; no error, so hosts must not catch it as one."""


class FeatureCapture:
    """Collects features of chosen modules while a model runs.

    Used as a context manager around one forward::

        with FeatureCapture(model, ['neck', 'bbox_head.retina_cls']) as features:
            model(images)
        features['neck']                    # one tensor per level
        features['bbox_head.retina_cls']    # one tensor per call of the shared module

    The ``forward`` of the modules is wrapped inside the ``with`` block only. Forward hooks would
    miss direct calls of the hosts, such as ``self.bbox_head.forward(x)``. Tensors are copied when
    they are captured, because a later in-place operation (the ReLU after a batch norm) would change
    them.

    Args:
        model: Model that will run.
        paths: Module paths, see :meth:`FeaturePath.parse`.
        role: Name of the model in errors, such as ``'student'`` or ``'teacher'``.

    Attributes:
        stop_after: Path -> number of tensors. If not empty, the ``with`` block is left as soon as
            every path has yielded that many: the rest of the forward does not run.
        may_yield_nothing: Whether a path may yield nothing in a forward; otherwise it is an error.
        calls: Path -> number of calls of its module in the last forward.

    Raises:
        ConfigError: If a path is malformed or names no module; the closest names are listed.
    """

    def __init__(self, model: nn.Module, paths: Iterable[str], role: str = 'model') -> None:
        self.role, self.model = role, model
        self.paths = list(dict.fromkeys(resolve_path(model, path, role) for path in paths))
        self.stop_after: Dict[str, int] = {}
        self.may_yield_nothing = False
        self.calls: Dict[str, int] = {}
        self._features: Dict[str, List[Tensor]] = {}
        self._wrapped = ExitStack()
        # Shared by all subsets: for other callables torch.compile would compile the model again.
        self._taps: Dict[Tuple[str, Tuple[FeaturePath, ...]], Tap] = {}

    @property
    def texts(self) -> List[str]:
        """The paths as they are written in a config."""
        return [path.text for path in self.paths]

    def subset(self, paths: Iterable[str]) -> 'FeatureCapture':
        """A capture of some of the paths, which ends the forward when these are done."""
        wanted = set(paths)
        part = copy.copy(self)
        part.paths = [path for path in self.paths if path.text in wanted]
        part.stop_after = {text: n for text, n in self.stop_after.items() if text in wanted}
        return part

    def __enter__(self) -> Dict[str, List[Tensor]]:
        self._features = {path.text: [] for path in self.paths}
        self.calls.update((path.text, 0) for path in self.paths)
        by_module: Dict[str, Tuple[FeaturePath, ...]] = {}
        for path in self.paths:
            by_module[path.module] = (*by_module.get(path.module, ()), path)
        with ExitStack() as wrapped:
            for name, paths in by_module.items():
                # Looked up anew, because the runner may have replaced a module (SyncBN).
                module = self.model.get_submodule(name)
                wrap = functools.partial(self._tap, name, paths)
                wrapped.enter_context(wrapped_forward(module, wrap))
            self._wrapped = wrapped.pop_all()
        return self._features

    def __exit__(self, error_type: Any, error: Any, traceback: Any) -> bool:
        self._wrapped.close()
        features, self._features = self._features, {}
        if error_type is AllCaptured:
            return True
        if error_type is not None:
            features.clear()
            return False
        for text, tensors in features.items():
            if not tensors and not self.may_yield_nothing:
                raise ConfigError(self._why_nothing(text))
        return False

    def _why_nothing(self, text: str) -> str:
        module = self.model.get_submodule(FeaturePath.parse(text).module)
        reason = f'{type(self.model).__name__} did not run this module in its forward'
        if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
            names = ', '.join(repr(f'{text}.{name}') for name, _ in module.named_children())
            reason = f'a {type(module).__name__} never runs itself; choose one of {names}'
        return f'{self.role} path {text!r} yielded nothing: {reason}'

    def _tap(self, name: str, paths: Tuple[FeaturePath, ...], forward: Callable) -> 'Tap':
        """The :class:`Tap` that stands in for a module's ``forward``.

        It is the same object in every forward, or torch.compile would compile the model again.
        """
        tap = self._taps.get((name, paths))
        if tap is None or tap.forward != forward:
            tap = self._taps[name, paths] = Tap(paths, forward)
        tap.capture = self
        return tap

    def stop_if_complete(self) -> None:
        """Leave the forward if nothing more is wanted of it."""
        counts = self.stop_after
        if counts and all(len(self._features[text]) >= n for text, n in counts.items()):
            raise AllCaptured

    def store(self, path: FeaturePath, value: Any) -> None:
        """Keep the tensors that a path picks of a module's output or argument."""
        where = f'{self.role} path {path.text!r}'
        for index in path.indices:
            picked = pick(value, index)
            if picked is None:
                raise ConfigError(f'{where}: [{index}] does not apply to {describe_value(value)}')
            value = picked
        parts = list(value.values()) if isinstance(value, dict) else value
        tensors = [value] if isinstance(value, Tensor) else parts
        is_sequence = isinstance(tensors, (tuple, list)) and len(tensors) > 0
        if not is_sequence or not all(isinstance(item, Tensor) for item in tensors):
            example = next(iter(value), 0) if isinstance(value, dict) else 0
            raise ConfigError(
                f'{where} yields {describe_value(value)}; choose a part of it, as in '
                f"'{path.module}[{example}]', or another module"
            )
        self._features[path.text] += [tensor.clone() for tensor in tensors]
        self.calls[path.text] += 1


class Tap:
    """A module's ``forward`` during a capture.

    Args:
        paths: Paths that begin with this module.
        forward: Forward of the module itself.

    Attributes:
        capture: The capture that is open, which gets the features.
    """

    def __init__(self, paths: Tuple[FeaturePath, ...], forward: Callable) -> None:
        functools.update_wrapper(self, forward)
        self.paths, self.forward = paths, forward
        self.capture: Optional[FeatureCapture] = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the forward, and store what the paths pick of its arguments and output."""
        capture = self.capture
        for path in self.paths:
            if path.argument is not None:
                where = f'{capture.role} path {path.text!r}'
                place = locate_argument(self.forward, args, kwargs, path.argument, where)
                capture.store(path, {**dict(enumerate(args)), **kwargs}[place])
        capture.stop_if_complete()
        output = self.forward(*args, **kwargs)
        for path in self.paths:
            if path.argument is None:
                capture.store(path, output)
        capture.stop_if_complete()
        return output


@contextmanager
def wrapped_forward(module: nn.Module, wrap: Callable[[Callable], Callable]) -> Iterator[None]:
    """Put a wrapper around a module's ``forward`` inside the ``with`` block."""
    previous = vars(module).get('forward')
    # On the instance, where it hides the method of the class until it is deleted.
    module.forward = wrap(module.forward)
    try:
        yield
    finally:
        if previous is None:
            # After `del module.forward` torch 2.14 compiles as if the class had no forward either.
            vars(module).pop('forward')
        else:
            module.forward = previous


def pick(values: Any, index: str) -> Any:
    """The part of a tuple, list or dict at an index such as ``'-1'``, ``'1:'`` or ``'high'``.

    A dict without such a key counts as the list of its values. None if there is no such part.
    """
    if isinstance(values, dict):
        if index in values:
            return values[index]
        values = list(values.values())
    if not isinstance(values, (tuple, list)) or index.strip('-:0123456789'):
        return None
    if ':' in index:
        start, stop = (int(number) if number else None for number in index.split(':'))
        return values[start:stop] or None
    return values[int(index)] if -len(values) <= int(index) < len(values) else None


def describe_value(value: Any) -> str:
    """Type of a value, and the shape of a tensor, in words for an error message."""
    if isinstance(value, Tensor):
        return f'a tensor of shape {tuple(value.shape)}'
    if isinstance(value, (tuple, list)):
        return f'a {type(value).__name__} of ' + ', '.join(type(item).__name__ for item in value)
    if isinstance(value, dict):
        return f'a {type(value).__name__} with the keys {", ".join(map(repr, value))}'
    return f'a {type(value).__name__}'
