"""Giving a module other inputs than the model has for it."""

import functools
from contextlib import contextmanager
from typing import Any, Callable, Iterable, Iterator

from torch import Tensor, nn

from mmdiffkd.capture.features import AllCaptured, describe_value, wrapped_forward
from mmdiffkd.capture.path import FeaturePath, locate_argument
from mmdiffkd.errors import ConfigError


@contextmanager
def replaced_input(
    model: nn.Module, path: FeaturePath, values: Iterable[Tensor], role: str = 'model'
) -> Iterator[None]:
    """Give a module other values for one of its arguments, inside the ``with`` block.

    Args:
        model: Model that will run.
        path: Input path, such as that of ``'roi_extractor:input[rois]'``.
        values: Values of the argument, one per call of the module, in order.
        role: Name of the model in errors.

    Raises:
        ConfigError: If the module is called more or less often than there are values. It may be
            called less often if the forward ends early, because everything has been captured.
    """
    where = f'{role} path {path.text!r}'
    remaining = iter(values)
    used = 0

    def wrap(forward: Callable) -> Callable:
        @functools.wraps(forward)
        def with_other_input(*args: Any, **kwargs: Any) -> Any:
            nonlocal used
            place = locate_argument(forward, args, kwargs, path.argument, where)
            given = {**dict(enumerate(args)), **kwargs}
            if not isinstance(given[place], Tensor):
                got = describe_value(given[place])
                raise ConfigError(f'{where}: only a tensor can be replaced, got {got}')
            given[place] = next(remaining, None)
            if given[place] is None:
                raise ConfigError(f'{where}: called more often than there are values for it')
            used += 1
            return forward(
                *(given[i] for i in range(len(args))), **{name: given[name] for name in kwargs}
            )

        return with_other_input

    with wrapped_forward(model.get_submodule(path.module), wrap):
        try:
            yield
        except AllCaptured:
            if used:
                raise
            raise ConfigError(
                f'{where}: the module did not run before the captured ones were done'
            ) from None
    left = sum(1 for _ in remaining)
    if left:
        raise ConfigError(f'{where}: called {used} times, there are {left} more values for it')
