"""What a head or a loss may know of the training step it is part of."""

import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any, List, Tuple, Type

import torch
from torch import Tensor, nn

from mmdiffkd.errors import ConfigError


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

    def labels(self) -> Tensor:
        """Classes of the images, (N,), or their probabilities, (N, C), as after mixup.

        They are the data samples themselves, if these are a tensor, or as in mmpretrain their
        ``gt_score``, or else their ``gt_label``.
        """
        if isinstance(self.data_samples, Tensor):
            return self.data_samples
        for key, join in (('gt_score', torch.stack), ('gt_label', torch.cat)):
            values = [getattr(sample, key, None) for sample in self.data_samples or ()]
            if values and all(isinstance(value, Tensor) for value in values):
                labels = join(values)
                if len(labels) == len(values):
                    return labels
        raise ConfigError(
            'a loss or head of pairs needs the class of each image (gt_label or gt_score in '
            'mmpretrain), and the data samples have none; choose another, such as KLDivLoss'
        )

    def boxes(self) -> List[Tensor]:
        """Annotated boxes of each image, (n, 4): left, top, right and bottom in pixels.

        They are the ``gt_instances.bboxes`` of the data samples, as in mmdet.
        """
        objects = [getattr(sample, 'gt_instances', None) for sample in self.data_samples or ()]
        if not objects or not all(hasattr(of_image, 'bboxes') for of_image in objects):
            raise ConfigError(
                'a loss or head of pairs needs the boxes of each image (gt_instances.bboxes in '
                'mmdet), and the data samples have none; choose another, such as MGDHead'
            )
        return [getattr(of_image.bboxes, 'tensor', of_image.bboxes) for of_image in objects]


def call(module: nn.Module, first: Tensor, second: Tensor, context: PairContext) -> Any:
    """Run a head or a loss, with the context if its forward takes one."""
    if takes_context(type(module)):
        return module(first, second, context=context)
    return module(first, second)


@cache
def takes_context(kind: Type[nn.Module]) -> bool:
    """Whether the forward of a head or loss has a parameter ``context``."""
    return 'context' in inspect.signature(kind.forward).parameters
