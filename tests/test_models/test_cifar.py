"""The networks are the literature's: size, function, shapes, initialisation."""

import numpy as np
import pytest
import torch
from torch import nn

from mmdiffkd.registry import MODELS

X4 = (32, 64, 128, 256)
RESNET, WIDE = 'mmdiffkd.CIFARResNet', 'mmdiffkd.CIFARWideResNet'

# Config; parameters with a linear layer to 100 classes; channels and side of the outputs of all
# stages for a 32x32 image; the fingerprint below, computed with the networks published with CRD
# (github.com/HobbitLong/RepDistiller).
NETWORKS = {
    'ResNet-20': (
        dict(type=RESNET, depth=20), 278324, ((16, 32), (32, 16), (64, 8)), 152.04500807042263
    ),
    'ResNet-8x4': (
        dict(type=RESNET, depth=8, channels=X4), 1233540, ((64, 32), (128, 16), (256, 8)),
        25.4978312304779,
    ),
    'WRN-40-2': (
        dict(type=WIDE, depth=40, widen_factor=2), 2255156,
        ((32, 32), (64, 16), (128, 8), (128, 8)), -71.8119979366995,
    ),
    'MobileNetV2': (
        dict(type='mmdiffkd.CIFARMobileNetV2', widen_factor=0.5), 812836,
        ((8, 16), (12, 16), (16, 8), (32, 4), (48, 4), (80, 2), (160, 2), (1280, 2)),
        18.0207158696147,
    ),
    'ShuffleNetV1': (
        dict(type='mmdiffkd.CIFARShuffleNetV1'), 949258, ((240, 16), (480, 8), (960, 4)),
        -158.61026746899176,
    ),
    'ShuffleNetV2': (
        dict(type='mmdiffkd.CIFARShuffleNetV2'), 1355528,
        ((116, 16), (232, 8), (464, 4), (1024, 4)), 206.00415825693764,
    ),
}  # fmt: skip


def values(shape):
    """Numbers that depend on nothing but the shape."""
    random = np.random.RandomState(list(shape))
    return torch.from_numpy(random.standard_normal(tuple(shape)))


@pytest.mark.parametrize('name', NETWORKS)
def test_parameters_maps_and_initial_weights(name):
    config, expected, stages, _ = NETWORKS[name]
    torch.manual_seed(0)
    network = MODELS.build(dict(config, out_indices=range(len(stages))))
    parameters = [*network.parameters(), *nn.Linear(stages[-1][0], 100).parameters()]
    assert sum(parameter.numel() for parameter in parameters) == expected
    maps = network(torch.randn(2, 3, 32, 32))
    assert [(*each.shape,) for each in maps] == [(2, c, size, size) for c, size in stages]
    # Every stride-2 layer, on both branches of a block, rounds up.
    stride = 32 // stages[-1][1]
    assert network(torch.randn(1, 3, 37, 25))[-1].shape[2:] == (-(-37 // stride), -(-25 // stride))
    network.init_weights()
    weights = [
        m.weight.flatten() * (m.out_channels * m.kernel_size[0] ** 2 / 2) ** 0.5
        for m in network.modules()
        if isinstance(m, nn.Conv2d)
    ]
    is_kaiming = torch.cat(weights).std().item() == pytest.approx(1, abs=0.02)
    assert is_kaiming == ('ShuffleNet' not in name)


@pytest.mark.parametrize('name', NETWORKS)
def test_same_function_as_the_published_networks(name):
    """Equal weights in equally shaped layers, batch norm on the batch's statistics."""
    config, _, _, expected = NETWORKS[name]
    network = MODELS.build(dict(config)).double().train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(values(parameter.shape))
        last = network(values((2, 3, 32, 32)))[-1]
    assert (last * values(last.shape)).sum().item() == pytest.approx(expected, rel=1e-6)


def test_wrong_arguments():
    for config, message in (
        (dict(type=RESNET, depth=18), '6 n \\+ 2'),
        (dict(type=RESNET, channels=(16, 32, 64)), 'stem and three stages'),
        (dict(type=WIDE, depth=4), '6 n \\+ 4'),
        (dict(type=RESNET, out_indices=(3,)), 'stages 0 to 2'),
    ):
        with pytest.raises(ValueError, match=message):
            MODELS.build(config)
