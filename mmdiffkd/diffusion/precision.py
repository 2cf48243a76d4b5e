"""The precision in which schedules and losses are computed."""

from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32 if autocast left it in half precision, else unchanged."""
    return x.float() if x.dtype.itemsize < 4 else x
