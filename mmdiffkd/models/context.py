"""What a head or a loss may know of the training step it is part of."""

from dataclasses import dataclass
from typing import Any, Tuple

from torch import Tensor


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
