"""What a head or a loss may know of the training step it is part of."""

import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any, Tuple, Type

from torch import Tensor, nn


@dataclass(frozen=True)
class PairContext:
    """The batch behind one map of a pair, for heads and losses whose forward takes a ``context``.

    Attributes:
        inputs: Images prepared for the student, (N, C, H, W).
        data_samples: Data samples of the host, with the annotations of the images.
        level: Index of the map among those of the pair, from 0.
        image_size: Height and width of ``inputs`` in pixels.
        stride: Vertical and horizontal distance of two neighbouring values of the teacher's map in
            pixels of ``inputs``.
    """

    inputs: Tensor
    data_samples: Any
    level: int
    image_size: Tuple[int, int]
    stride: Tuple[float, float]

    @classmethod
    def of_map(
        cls, inputs: Tensor, data_samples: Any, level: int, feature: Tensor
    ) -> 'PairContext':
        """The context of the teacher map ``feature``, (N, C, h, w)."""
        height, width = inputs.shape[-2:]
        stride = height / feature.shape[-2], width / feature.shape[-1]
        return cls(inputs, data_samples, level, (height, width), stride)


def call(module: nn.Module, first: Tensor, second: Tensor, context: PairContext) -> Any:
    """Run a head or a loss, with the context if its forward takes one."""
    if takes_context(type(module)):
        return module(first, second, context=context)
    return module(first, second)


@cache
def takes_context(kind: Type[nn.Module]) -> bool:
    """Whether the forward of a head or loss has a parameter ``context``."""
    return 'context' in inspect.signature(kind.forward).parameters
