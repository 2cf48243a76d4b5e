"""What a survey finds of modules that yield all kinds of things."""

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from mmdiffkd.autopair.survey import survey


def tokens(x):
    patches = nn.functional.avg_pool2d(x, 16).flatten(2).mT
    return torch.cat([patches[:, :1], patches], dim=1)


MAPS = dict(
    maps=(lambda x: x[..., ::2, ::2], [(3, 32, 32)]),
    channels_last=(lambda x: x[..., ::2, ::2].movedim(1, -1), None),
    vectors=(lambda x: x.mean((2, 3)), [(3, 1, 1)]),
    tokens=(tokens, [(3, 4, 4)]),
    several=(lambda x: [x, x[..., :1, :1]], [(3, 64, 64), (3, 1, 1)]),
    too_few_tokens=(lambda x: tokens(x)[:, :7], None),
    scalars=(lambda x: x.mean(), None),
    not_per_image=(lambda x: x.flatten(0, 1)[:2], None),
    dicts=(lambda x: dict(a=x), None),
    nested=(lambda x: (x, (x, x)), None),
    nothing=(lambda x: None, None),
)


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Conv2d(3, 3, 3, padding=1)
        self.parts = nn.ModuleDict({name: nn.Identity() for name in MAPS})
        for name, (make, _) in MAPS.items():
            self.parts[name].forward = make

    def extract_feat(self, inputs):
        return self.backbone(inputs)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = self.extract_feat(inputs)
        for part in self.parts.values():
            part(x)
        return x


@pytest.mark.parametrize('trains', [False, True])
def test_maps(trains):
    found = survey(Model(), 'student', [(3, 64, 64)], trains=trains)
    for name, (_, expected) in MAPS.items():
        assert found.maps(f'parts.{name}') == expected, name


def test_only_what_trains_counts_in_a_student():
    model = Model()
    model.backbone.requires_grad_(False)
    assert survey(model, 'teacher', [(3, 64, 64)]).maps('backbone') == [(3, 64, 64)]
    assert survey(model, 'student', [(3, 64, 64)], trains=True).maps('backbone') is None
