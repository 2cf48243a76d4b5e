"""What of a model's modules can be paired, whatever these yield."""

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from mmdiffkd.autopair.model_view import view_model
from mmdiffkd.errors import ConfigError


class Yields(nn.Module):
    """Turns its (N, C, H, W) input into whatever a function makes of it."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def tokens(x):
    """Of patches of 16 pixels, behind a class token."""
    patches = nn.functional.avg_pool2d(x, 16).flatten(2).mT
    return torch.cat([patches[:, :1], patches], dim=1)


MAPS = dict(
    maps=(lambda x: x[..., ::2, ::2], [(3, 32, 32)]),
    channels_last=(lambda x: x[..., ::2, ::2].movedim(1, -1), None),
    vectors=(lambda x: x.mean((2, 3)), [(3, 1, 1)]),
    tokens=(tokens, [(3, 4, 4)]),
    several=(lambda x: [x, x[..., :1, :1]], [(3, 64, 64), (3, 1, 1)]),
    too_few_tokens=(lambda x: tokens(x)[:, :7], None),
    five_dimensions=(lambda x: x[..., None], None),
    scalars=(lambda x: x.mean(), None),
    not_per_image=(lambda x: x.flatten(0, 1)[:2], None),
    dicts=(lambda x: dict(a=x), None),
    nested=(lambda x: (x, (x, x)), None),
    nothing=(lambda x: None, None),
    no_outputs=(lambda x: (), None),
)


class Model(BaseModel):
    """Its backbone works; what comes behind fails if so wanted."""

    def __init__(self, fails=False):
        super().__init__()
        self.backbone = nn.Conv2d(3, 3, 3, padding=1)
        self.parts = nn.ModuleDict({name: Yields(make) for name, (make, _) in MAPS.items()})
        self.fails = fails

    def extract_feat(self, inputs):
        return self.backbone(inputs)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = self.extract_feat(inputs)
        if self.fails:
            raise RuntimeError('no proposals')
        for part in self.parts.values():
            part(x)
        return dict(loss=x.mean()) if mode == 'loss' else x


@pytest.mark.parametrize('name', MAPS)
@pytest.mark.parametrize('trains', [False, True])
def test_maps(name, trains):
    view = view_model(Model(), 'student', ((3, 64, 64),), complete=True, trains=trains)
    expected = MAPS[name][1]
    assert view.maps(f'parts.{name}') == expected
    if expected:
        assert view.learns(f'parts.{name}') == [True] * len(expected)
    assert view.maps('parts') is None and view.maps('no_such_module') is None


def test_model_of_which_only_the_backbone_runs():
    view = view_model(Model(fails=True), 'student', ((3, 64, 64),), complete=True, trains=True)
    assert not view.complete
    assert view.maps('backbone') == [(3, 64, 64)] and view.maps('parts.maps') is None


def test_model_without_features_that_does_not_run():
    class Bare(BaseModel):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            raise RuntimeError('no proposals')

    with pytest.raises(ConfigError, match='student: the dry forward .* 64x64 .* no proposals'):
        view_model(Bare(), 'student', ((3, 64, 64), (3, 32, 32)), complete=True, trains=False)


def test_annotations_of_another_kind_do_not_matter():
    """If the loss of made-up ones fails, what leads to it has been seen."""

    class Picky(Model):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            assert mode != 'loss', 'needs keypoints'
            return super().forward(inputs, data_samples, mode)

    view = view_model(Picky(), 'student', ((3, 64, 64),), complete=True, trains=True)
    assert view.maps('parts.maps') == [(3, 32, 32)]
