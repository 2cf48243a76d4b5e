"""Training without labels: a student that has no losses of its own."""

from typing import Any, Dict, Optional

from mmengine.model import BaseModel
from torch import Tensor

from mmdiffkd.registry import MODELS


@MODELS.register_module()
class BackboneModel(BaseModel):
    """A backbone, with a neck or without, that has no losses of its own.

    As the student of a distiller it learns from the teacher alone, so its images need no labels.
    Its checkpoints have the names ``backbone.*`` and ``neck.*`` of the hosts' models, which start
    from them with ``init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.

    Args:
        backbone: Config of the backbone.
        neck: Config of the neck, or None.
        data_preprocessor: Config of the data preprocessor, with its type.
        init_cfg: Config of the initialisation.
    """

    def __init__(
        self,
        backbone: Dict,
        neck: Optional[Dict] = None,
        data_preprocessor: Optional[Dict] = None,
        init_cfg: Optional[Dict] = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = None if neck is None else MODELS.build(neck)

    def extract_feat(self, inputs: Tensor) -> Any:
        """Prepared images (N, C, H, W) to the features of the neck, or else of the backbone."""
        features = self.backbone(inputs)
        return features if self.neck is None else self.neck(features)

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """The features; no losses in ``mode='loss'``."""
        features = self.extract_feat(inputs)
        return {} if mode == 'loss' else features
