"""Giving a module other inputs than the model has for it."""

import functools
from contextlib import contextmanager
from typing import Callable, Iterable, Iterator

from torch import Tensor, nn

from mmdiffkd.capture.features import AllCaptured, describe_value, wrapped_forward
from mmdiffkd.capture.path import FeaturePath, locate_argument


@contextmanager
def replaced_input(
    model: nn.Module, path: FeaturePath, values: Iterable[Tensor], role: str = 'model'
) -> Iterator[None]:
    """Give a module other values for one of its arguments, inside the ``with`` block.

    Args:
        model: The model that will run.
        path: An input path, such as that of ``'roi_extractor:input[rois]'``.
        values: One per call of the module, in order.
        role: Named in errors.

    Raises:
        RuntimeError: If the module is called more or less often than there are values. (Less often
            is all right if the forward is left early, because all is captured.)
    """
    where = f'{role} path {path.text!r}'
    remaining = iter(values)
    used = 0

    def wrap(forward: Callable) -> Callable:
        @functools.wraps(forward)
        def fed_forward(*args, **kwargs):
            nonlocal used
            place = locate_argument(forward, args, kwargs, path.argument, where)
            given = {**dict(enumerate(args)), **kwargs}
            if not isinstance(given[place], Tensor):
                raise ValueError(
                    f'{where}: only a tensor can be replaced, got {describe_value(given[place])}'
                )
            value = next(remaining, None)
            if value is None:
                raise RuntimeError(f'{where}: called more often than there are values for it')
            used += 1
            given[place] = value
            return forward(
                *(given[i] for i in range(len(args))), **{name: given[name] for name in kwargs}
            )

        return fed_forward

    with wrapped_forward(model.get_submodule(path.module), wrap):
        try:
            yield
        except AllCaptured:
            if used:
                raise
            raise RuntimeError(
                f'{where}: the module did not run before the captured ones were done'
            ) from None
    left = sum(1 for _ in remaining)
    if left:
        raise RuntimeError(f'{where}: called {used} times, there are {left} more values for it')
