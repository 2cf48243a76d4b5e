"""A widening 1x1 convolution with its batch norm, without the wide map between them."""

from typing import Any, Tuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def normalized_conv_add(x: Tensor, hidden: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """``x + norm(conv(hidden))`` for a 1x1 ``conv`` and a ``norm`` in training mode.

    Mean and variance of a linear map's output follow from mean and covariance of its input. The
    input of a bottleneck's last convolution has a fraction of the output's channels, so batch norm
    costs little there, and becomes a part of the weight. The gradient needs what that of the
    convolution yields anyway, and the covariance. Nothing of the output's width is kept.

    Gradients of gradients are refused.

    Args:
        x: (N, C, H, W).
        hidden: (N, K, H, W), channels-last, more than one value per channel.
        conv: From K to C channels.
        norm: Its running statistics change as in its own forward.

    Returns:
        (N, C, H, W).
    """
    return _NormalizedConvAdd.apply(x, hidden, conv.weight, conv.bias, norm.weight, norm.bias, norm)


def _pixels(x: Tensor) -> Tensor:
    """(N, K, H, W) as (N * H * W, K); a view of channels-last maps."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


class _NormalizedConvAdd(torch.autograd.Function):
    # In the comments p runs over the P pixels of all images, h is hidden, m its mean, W the weight,
    # y = W h + b what the convolution would make, and y' = (y - mean(y)) / std(y).

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        norm: nn.BatchNorm2d,
    ) -> Tensor:
        mean = hidden.mean((0, 2, 3), keepdim=True)
        # Centred first: of squares much larger than the variance no digit of it would be left.
        centred = hidden - mean
        pixels, matrix = _pixels(centred), weight.flatten(1)
        count = len(pixels)
        # var(y) = diag(W Cov(h) W^T)
        spread = matrix @ (pixels.t() @ pixels / count)
        variance = (spread * matrix).sum(1)
        _track(norm, torch.addmv(bias, matrix, mean.flatten()), variance, count)
        inverse_std = (variance + norm.eps).rsqrt()
        scaled = (norm_weight * inverse_std)[:, None, None, None] * weight
        ctx.save_for_backward(hidden, mean, scaled, matrix, spread, norm_weight, inverse_std)
        return torch.conv2d(centred, scaled, norm_bias).add_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tuple:
        hidden, mean, scaled, matrix, spread, norm_weight, inverse_std = ctx.saved_tensors
        centred = hidden - mean
        # dL/dh as if mean and variance were constants, and sum_p G (h - m)^T
        hidden_grad, products, _ = torch.ops.aten.convolution_backward(
            grad, centred, scaled, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1,
            [True, True, False],
        )  # fmt: skip
        products, grad_sum = products.flatten(1), _pixels(grad).sum(0)
        # dL/d(norm weight) = sum_p G y'
        norm_weight_grad = inverse_std * (matrix * products).sum(1)
        # Through a batch norm, dL/dy = scale (G - sum(G) / P - y' sum(G y') / P)
        decay = inverse_std * norm_weight_grad
        scale = norm_weight * inverse_std
        weight_grad = scale[:, None] * (products - decay[:, None] * spread)
        # dL/dh = W^T dL/dy; y' is W (h - m) / std(y)
        pixels = _pixels(centred)
        back = scaled.flatten(1).t() / -len(pixels)
        correction = torch.addmm(back @ grad_sum, pixels, matrix.t() @ (back * decay).t())
        num, _, height, width = hidden.shape
        hidden_grad += correction.unflatten(0, (num, height, width)).permute(0, 3, 1, 2)
        # Whatever the bias is, batch norm takes it away again.
        bias_grad = torch.zeros_like(grad_sum)
        return (
            grad,
            hidden_grad,
            weight_grad[:, :, None, None],
            bias_grad,
            norm_weight_grad,
            grad_sum,
            None,
        )


@torch.no_grad()
def _track(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update running statistics; like torch, with the unbiased variance."""
    norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
