"""What makes the forward of a frozen model cheaper."""

import functools
import math
from contextlib import nullcontext
from typing import Any, Callable, ContextManager, Dict, Iterable, List, Optional, Set, Tuple

import torch
from torch import Tensor, nn

Features = Dict[str, List[Tensor]]

PRECISIONS = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)

# Layers whose weights are cast once; autocast would cast them in each forward. Subclasses may do
# other things with their weights, except those that mmcv has for empty inputs.
_CAST_LAYERS = {
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
}
_MMCV_LAYERS = 'mmcv.cnn.bricks.wrappers'


def fold_batch_norms(model: nn.Module, captured: Iterable[str] = ()) -> None:
    """Merge batch norms into the convolutions before them, unless their output is ``captured``.

    Only backbone and neck change where the model has one, as nearly all of the time goes there.
    """
    # Not before it is needed: importing the package imports no library of the hosts.
    from mmcv.cnn import fuse_conv_bn

    kept = {name: model.get_submodule(name) for name in captured}
    kept = {name: module for name, module in kept.items() if isinstance(module, nn.Conv2d)}
    for name, module in kept.items():
        # A batch norm is merged only with a convolution that stands beside it.
        model.set_submodule(name, nn.Sequential(module))
    # A host's model without a neck may have None in its place.
    parts = [getattr(model, name, None) for name in ('backbone', 'neck')]
    for part in [part for part in parts if part is not None] or [model]:
        fuse_conv_bn(part)
    for name, module in kept.items():
        model.set_submodule(name, module)
    model.requires_grad_(False).eval()


def use_channels_last(model: nn.Module) -> None:
    """Give 2-d convolutions channels-last weights, so that their maps are channels-last too."""
    operations, inside = mmcv_operations(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module not in inside:
            module.to(memory_format=torch.channels_last)
    for module in operations:
        # RoIAlign and deformable convolutions read the memory of maps as (N, C, H, W).
        module.register_forward_pre_hook(with_contiguous_inputs, with_kwargs=True)


def with_contiguous_inputs(module: nn.Module, args: tuple, kwargs: dict) -> Tuple[tuple, dict]:
    """Forward pre-hook: make all tensors contiguous."""
    return map_tensors(Tensor.contiguous, (args, kwargs))


class Precision:
    """The precision that a model computes in, whatever the run around it has.

    Args:
        name: Key of :data:`PRECISIONS`, or None for the precision of the run.
    """

    def __init__(self, name: Optional[str]) -> None:
        self.dtype = None if name is None else PRECISIONS[name]

    def apply_to(self, model: nn.Module) -> None:
        """Cast the weights of convolutions and linear layers; norms keep float32.

        Operations of mmcv (RoIAlign, deformable convolutions) compute in float32, because many have
        no other precision. What heads yield is float32, because it goes into post-processing such
        as NMS.
        """
        if self.dtype in (None, torch.float32):
            return
        operations, inside = mmcv_operations(model)
        for module in operations:
            module.forward = computing_in_float32(module.forward)
        for module in model.modules():
            if hasattr(module, 'predict_by_feat'):
                module.register_forward_hook(lambda _, args, output: map_tensors(to_float, output))
            kind = type(module)
            plain = kind in _CAST_LAYERS or kind.__module__ == _MMCV_LAYERS
            if plain and module not in inside:
                module.to(self.dtype)

    def autocast(self, device: torch.device) -> ContextManager:
        """The context in which the model runs on a device."""
        if self.dtype is None:
            return nullcontext()
        enabled = self.dtype is not torch.float32
        return torch.autocast(device.type, self.dtype if enabled else None, enabled)

    def of_input(self, value: Tensor) -> Tensor:
        """An input of the model: float32 if the precision is set, for autocast to begin with."""
        return value if self.dtype is None else to_float(value)

    def of_output(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        """An output of the model in the precision ``dtype`` of the run around it."""
        return value.to(dtype) if self.dtype is not None and value.is_floating_point() else value

    def of_move(self, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """``function``, which moves or casts tensors, without the casting if the precision is set.

        Weights that are cast there and back would lose digits.
        """
        if self.dtype is None:
            return function
        return lambda tensor: tensor.to(function(tensor.new_empty(0)).device)


def mmcv_operations(model: nn.Module) -> Tuple[List[nn.Module], Set[nn.Module]]:
    """The operations of ``mmcv.ops`` in a model, and these with all modules inside of them."""
    operations = [
        module
        for module in model.modules()
        if any(cls.__module__.startswith('mmcv.ops.') for cls in type(module).__mro__)
    ]
    return operations, {part for module in operations for part in module.modules()}


def computing_in_float32(forward: Callable) -> Callable:
    """A forward whose inputs are float32, and whose output has the precision of its first one."""

    @functools.wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        given = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(given.device.type, enabled=False):
            output = forward(*map_tensors(to_float, args), **map_tensors(to_float, kwargs))
        return map_tensors(lambda tensor: tensor.to(given.dtype), output)

    return run


def to_float(tensor: Tensor) -> Tensor:
    """A floating-point tensor in float32; others stay."""
    return tensor.float() if tensor.is_floating_point() else tensor


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """``value`` with ``function`` applied to all tensors in its tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(function, item) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map_tensors(function, item) for item in value)
    return value


def compile_children(model: nn.Module, captured: Iterable[str]) -> List[str]:
    """Run children of a model through ``torch.compile``, and return their names.

    Args:
        model: Model whose children are compiled.
        captured: Names of modules whose forward is wrapped. Children that are or hold one are left
            out, because a wrapper cannot be compiled.
    """
    wrapped = {name.partition('.')[0] for name in captured}
    names = [name for name, _ in model.named_children() if name not in wrapped]
    for name in names:
        model.get_submodule(name).compile()
    return names


def relative_difference(features: Features, reference: Features) -> float:
    """The largest difference of a feature, relative to the largest element of that feature.

    Args:
        features: Name -> tensors.
        reference: Name -> tensors of the same shapes; for others the difference is infinite.
    """
    ratios = [0.0]
    for name, expected in reference.items():
        found = features[name]
        if [tensor.shape for tensor in found] != [tensor.shape for tensor in expected]:
            return math.inf
        for ours, theirs in zip(found, expected):
            # Equal tensors may be all zero, or without elements.
            if not torch.equal(ours, theirs):
                difference = (ours.double() - theirs.double()).abs().max()
                ratios.append(float(difference / theirs.double().abs().max()))
    return math.nan if any(map(math.isnan, ratios)) else max(ratios)
