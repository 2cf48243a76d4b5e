"""A convolution and its batch norm as one operation compute what the two do."""

import copy

import pytest
import torch
from torch import nn

from mmdiffkd.diffusion.layers import Bottleneck
from mmdiffkd.diffusion.normalized_conv import normalized_conv_add

NAMES = ('x', 'hidden', 'conv.weight', 'conv.bias', 'norm.weight', 'norm.bias')


def make_inputs(dtype=torch.float64, offset=0.0, spread=1.0):
    torch.manual_seed(0)
    x = torch.randn(2, 12, 6, 5, dtype=dtype)
    hidden = offset + spread * torch.randn(2, 4, 6, 5, dtype=dtype)
    conv, norm = nn.Conv2d(4, 12, 1).to(dtype), nn.BatchNorm2d(12).to(dtype)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    maps = [m.to(memory_format=torch.channels_last).requires_grad_() for m in (x, hidden)]
    return (*maps, conv, norm)


def outputs_and_gradients(function, x, hidden, conv, norm):
    norm = copy.deepcopy(norm)
    output = function(x, hidden, conv, norm)
    tensors = [x, hidden, *conv.parameters(), *norm.parameters()]
    # Not laid out like the output.
    above = torch.randn(
        output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(1)
    )
    return output, dict(zip(NAMES, torch.autograd.grad(output, tensors, above))), norm


def two_modules(x, hidden, conv, norm):
    return x + norm(conv(hidden))


def test_agrees_with_two_modules():
    inputs = make_inputs()
    output, gradients, norm = outputs_and_gradients(normalized_conv_add, *inputs)
    expected, expected_gradients, expected_norm = outputs_and_gradients(two_modules, *inputs)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-11, atol=1e-11, msg=name)
    for name, value in expected_norm.state_dict().items():
        torch.testing.assert_close(norm.state_dict()[name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(('offset', 'spread'), [(1e4, 1.0), (1e4, 0.0), (0.0, 0.0), (0.0, 1e4)])
def test_extreme_maps_in_float32(offset, spread):
    """Large means do not swallow the variance; constant maps have none, and stay finite."""
    inputs = make_inputs(torch.float32, offset, spread)
    output, gradients, _ = outputs_and_gradients(normalized_conv_add, *inputs)
    doubles = [value.double() for value in inputs[:2]], [m.double() for m in inputs[2:]]
    expected, _, _ = outputs_and_gradients(two_modules, *doubles[0], *doubles[1])
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    # Neither the values nor their mean are known better than to their rounding.
    assert (output - expected).abs().max() <= 1e-5 * expected.abs().max() + 2e-7 * offset


def test_gradients_of_gradients_are_refused():
    x, hidden, conv, norm = make_inputs()
    output = normalized_conv_add(x, hidden, conv, norm)
    (gradient,) = torch.autograd.grad(output.square().sum(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        gradient.sum().backward()


def test_bottleneck_is_the_same_on_both_sides_of_the_limit():
    torch.manual_seed(0)
    block = Bottleneck(16, 4).double()
    x = torch.randn(2, 16, 32, 33, dtype=torch.float64).to(memory_format=torch.channels_last)
    results = []
    for min_pixels in (1024, 10**9):
        bottleneck = copy.deepcopy(block)
        bottleneck.MIN_PIXELS = min_pixels
        output = bottleneck(x)
        joined = 'NormalizedConvAdd' in output.grad_fn.name()
        output.square().mean().backward()
        gradients = {name: p.grad for name, p in bottleneck.named_parameters()}
        results.append((joined, output, gradients, bottleneck.state_dict()))
    (joined, *ours), (separate, *expected) = results
    assert joined and not separate
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    block.eval()
    assert 'NormalizedConvAdd' not in block(x).grad_fn.name()
