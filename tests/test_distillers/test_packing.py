"""Packed weights change where a convolution reads, not what it computes."""

import pytest
import torch
from torch import nn

from mmdiffkd.distillers import FrozenTeacher
from mmdiffkd.distillers.packing import PackedForward, pack_weights, unpack_weights

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason='needs a torch with oneDNN'
)
PACKED, PLAIN = '_convolution_pointwise', 'convolution'


@pytest.mark.parametrize(
    'arguments',
    [
        dict(kernel_size=3),
        dict(kernel_size=3, stride=2, padding=1),
        dict(kernel_size=3, dilation=2, padding=(2, 1), bias=False),
        dict(kernel_size=1, groups=4),
        dict(kernel_size=3, groups=8),
    ],
)
@torch.no_grad()
def test_agrees_at_any_size(arguments, operations):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, **arguments)
    sizes = [
        torch.randn(2, 8, 12, 10),
        torch.randn(1, 8, 7, 9).to(memory_format=torch.channels_last),
    ]
    expected = [conv(x) for x in sizes]
    pack_weights([conv])
    with operations:
        outputs = [conv(x) for x in sizes]
    assert operations.names.count(PACKED) == 2
    torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-6)
    unpack_weights([conv])
    assert 'forward' not in vars(conv)


def test_runs_as_it_is_where_packed_weights_do_not_work(operations):
    conv = nn.Conv2d(8, 16, 3)
    x = torch.randn(2, 8, 6, 5)
    pack_weights([conv])
    with operations:
        conv(x).sum().backward()
        with torch.no_grad():
            with torch.autocast('cpu', torch.bfloat16):
                assert conv(x).dtype is torch.bfloat16
            conv.double()(x.double())
            conv(x[:0].double())
    assert conv.weight.grad is not None
    assert PACKED not in operations.names
    assert operations.names.count(PLAIN) == 4


def test_convolutions_of_other_kinds_are_left_alone():
    class Standardized(nn.Conv2d):
        """Does something else with its weight."""

    others = [
        Standardized(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode='circular'),
        nn.Conv2d(4, 4, 3, padding='same'),
        nn.ConvTranspose2d(4, 4, 3),
    ]
    pack_weights(others)
    assert not [module for module in others if 'forward' in vars(module)]


@pytest.mark.parametrize(
    ('switches', 'packed'),
    [
        (dict(), True),
        (dict(precision='fp32'), True),
        (dict(precision='bf16'), False),
        (dict(compile=True), False),
        (dict(channels_last=False), False),
    ],
)
def test_a_teacher_s_switches(toy_teacher, images, switches, packed):
    teacher = FrozenTeacher(**toy_teacher, **switches)
    teacher.prepare(['neck'], teacher.model.data_preprocessor)
    teacher.optimize(images)
    convolutions = [m for m in teacher.model.modules() if isinstance(m, nn.Conv2d)]
    are_packed = [isinstance(vars(m).get('forward'), PackedForward) for m in convolutions]
    assert are_packed == [packed] * len(convolutions)
