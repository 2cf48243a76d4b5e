"""The networks are the literature's: size, function, shapes, initialisation."""

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from mmdiffkd.registry import MODELS

X4 = (32, 64, 128, 256)

# Config; parameters with a linear layer to 100 classes; shapes of the outputs of all stages for a
# 32x32 image; the fingerprint below, computed with the networks published with CRD
# (github.com/HobbitLong/RepDistiller).
NETWORKS = {
    'ResNet-20': (
        dict(type='mmdiffkd.CIFARResNet', depth=20),
        278324,
        ((16, 32), (32, 16), (64, 8)),
        152.04500807042263,
    ),
    'ResNet-56': (
        dict(type='mmdiffkd.CIFARResNet', depth=56),
        861620,
        ((16, 32), (32, 16), (64, 8)),
        397.2028291753761,
    ),
    'ResNet-8x4': (
        dict(type='mmdiffkd.CIFARResNet', depth=8, channels=X4),
        1233540,
        ((64, 32), (128, 16), (256, 8)),
        25.4978312304779,
    ),
    'ResNet-32x4': (
        dict(type='mmdiffkd.CIFARResNet', depth=32, channels=X4),
        7433860,
        ((64, 32), (128, 16), (256, 8)),
        299.22009226686276,
    ),
    'WRN-40-1': (
        dict(type='mmdiffkd.CIFARWideResNet', depth=40, widen_factor=1),
        569780,
        ((16, 32), (32, 16), (64, 8), (64, 8)),
        35.27960884443013,
    ),
    'WRN-40-2': (
        dict(type='mmdiffkd.CIFARWideResNet', depth=40, widen_factor=2),
        2255156,
        ((32, 32), (64, 16), (128, 8), (128, 8)),
        -71.8119979366995,
    ),
    'MobileNetV2': (
        dict(type='mmdiffkd.CIFARMobileNetV2', widen_factor=0.5),
        812836,
        ((8, 16), (12, 16), (16, 8), (32, 4), (48, 4), (80, 2), (160, 2), (1280, 2)),
        18.0207158696147,
    ),
    'ShuffleNetV1': (
        dict(type='mmdiffkd.CIFARShuffleNetV1'),
        949258,
        ((240, 16), (480, 8), (960, 4)),
        -158.61026746899176,
    ),
    'ShuffleNetV2': (
        dict(type='mmdiffkd.CIFARShuffleNetV2'),
        1355528,
        ((116, 16), (232, 8), (464, 4), (1024, 4)),
        206.00415825693764,
    ),
}
CONFIGS = {name: values[0] for name, values in NETWORKS.items()}

each_network = pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS.keys())


def build(config, **changes):
    torch.manual_seed(0)
    return MODELS.build(dict(config, **changes))


def values(shape):
    """Numbers that depend on nothing but the shape."""
    random = np.random.RandomState(list(shape))
    return torch.from_numpy(random.standard_normal(tuple(shape)))


@pytest.mark.parametrize('name', NETWORKS)
def test_parameters_maps_and_initial_weights(name):
    config, expected, stages, _ = NETWORKS[name]
    network = build(config, out_indices=range(len(stages)))
    parameters = [*network.parameters(), *nn.Linear(stages[-1][0], 100).parameters()]
    assert sum(parameter.numel() for parameter in parameters) == expected
    maps = network(torch.randn(2, 3, 32, 32))
    assert [(*each.shape,) for each in maps] == [(2, c, size, size) for c, size in stages]
    kaiming = 'ShuffleNet' not in config['type']
    network.init_weights()
    weights = [
        m.weight.flatten() * (m.out_channels * m.kernel_size[0] ** 2 / 2) ** 0.5
        for m in network.modules()
        if isinstance(m, nn.Conv2d)
    ]
    assert (torch.cat(weights).std().item() == pytest.approx(1, abs=0.02)) == kaiming


@pytest.mark.parametrize('name', NETWORKS)
def test_same_function_as_the_published_networks(name):
    """Equal weights in equally shaped layers, batch norm on the batch's statistics."""
    config, _, stages, expected = NETWORKS[name]
    network = build(config).double().train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(values(parameter.shape))
        last = network(values((2, 3, 32, 32)))[-1]
    assert last.shape[1] == stages[-1][0]
    assert (last * values(last.shape)).sum().item() == pytest.approx(expected, rel=1e-6)


@each_network
@pytest.mark.parametrize('size', [(37, 25)])
def test_other_sizes_of_images(config, size):
    """Every stride-2 layer, on both branches of a block, rounds up."""
    network = build(config)
    square = network(torch.randn(1, 3, 32, 32))[-1]
    stride = 32 // square.shape[-1]
    (last,) = network(torch.randn(1, 3, *size))
    assert last.shape == (1, square.shape[1], *(-(-length // stride) for length in size))


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='CIFARResNet', depth=18), '6 n \\+ 2'),
        (dict(type='CIFARResNet', depth=2), '6 n \\+ 2'),
        (dict(type='CIFARResNet', channels=(16, 32, 64)), 'stem and three stages'),
        (dict(type='CIFARWideResNet', depth=20), '6 n \\+ 4'),
        (dict(type='CIFARWideResNet', depth=4), '6 n \\+ 4'),
        (dict(type='CIFARMobileNetV2', out_indices=(8,)), 'stages 0 to 7'),
        (dict(type='CIFARShuffleNetV1', out_indices=()), 'stages 0 to 2'),
    ],
)
def test_wrong_arguments(config, message):
    # A runner of another test may have left its default scope behind.
    config = dict(config, type=f'mmdiffkd.{config["type"]}')
    with pytest.raises(ValueError, match=message):
        MODELS.build(config)


def test_resnet50_is_mmpretrains():
    registry = pytest.importorskip('mmpretrain.registry')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = registry.MODELS.build(
            dict(type='ResNet_CIFAR', depth=50, zero_init_residual=False)
        )
    (last,) = backbone(torch.randn(1, 3, 32, 32))
    assert last.shape == (1, 2048, 4, 4)
    classifier = nn.Linear(2048, 100)
    parameters = [*backbone.parameters(), *classifier.parameters()]
    assert sum(parameter.numel() for parameter in parameters) == 23705252
