"""What makes a frozen model's forward cheaper, apart from folding its batch norms."""

import functools
import logging
import math
from contextlib import nullcontext
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterable,
    List,
    Optional,
    Set,
    Tuple,
)

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from mmdiffkd.capture import FeaturePath
from mmdiffkd.errors import ConfigError, suggest

Features = Dict[str, List[Tensor]]

# Largest difference of a feature, relative to its largest element, that a change which is to leave
# features alone may make. Rounding in float32 makes about 1e-6.
TOLERANCE = 1e-4

PRECISIONS = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)

_CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_PLAIN_FORWARDS = {cls.forward for cls in (*_CONVOLUTIONS, nn.Linear)}
# mmcv's convolutions and linear layers for empty inputs do with their weights what torch's do.
_PLAIN_MODULES = ('mmcv.cnn.bricks.wrappers',)


def check_switches(precision: Any, **switches: Any) -> None:
    """Raise :class:`ConfigError` unless the teacher's switches have values that they can have."""
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise ConfigError(f'teacher.{name} must be True or False, got {value!r}')
    if precision is not None and precision not in list(PRECISIONS):
        raise ConfigError(
            f'teacher.precision must be None or one of {", ".join(map(repr, PRECISIONS))}, got '
            f'{precision!r}{suggest(precision, PRECISIONS)}'
        )


class Precision:
    """The precision that a model computes in, whatever the run around it has.

    Args:
        name: One of :data:`PRECISIONS`, or None for the run's own.
    """

    def __init__(self, name: Optional[str]) -> None:
        self.name = name
        self.dtype = None if name is None else PRECISIONS[name]

    def apply_to(self, model: nn.Module) -> None:
        """Give convolutions and linear layers weights of this precision.

        Autocast would cast them anew in each forward. Norms and whatever handles its weights
        itself keep theirs. New parameters are made, the old tensors are not changed.

        mmcv's own operations (RoIAlign, deformable convolutions) compute in float32: many have no
        other precision, and autocast does not know them. For the same reason what heads yield is
        float32: it goes into post-processing, such as NMS.
        """
        if self.dtype in (None, torch.float32):
            return
        operations, inside = _mmcv_operations(model)
        for module in operations:
            module.forward = _computing_in_float32(module.forward)
        for module in model.modules():
            if hasattr(module, 'predict_by_feat'):
                module.register_forward_hook(lambda _, args, output: tree_map(_in_float32, output))
            if _uses_weights_plainly(module) and module not in inside:
                for name, parameter in module._parameters.items():
                    if parameter is not None:
                        cast = nn.Parameter(parameter.to(self.dtype), parameter.requires_grad)
                        module._parameters[name] = cast

    def autocast(self, device: torch.device) -> ContextManager:
        """The context in which the model runs on a device."""
        if self.dtype is None:
            return nullcontext()
        if self.dtype is torch.float32:
            return torch.autocast(device.type, enabled=False)
        return torch.autocast(device.type, dtype=self.dtype)

    def of_input(self, value: Tensor) -> Tensor:
        """An input of the model; autocast begins with float32."""
        cast = self.dtype is not None and value.is_floating_point()
        return value.float() if cast else value

    def of_output(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        """An output of the model, in the precision ``dtype`` of the run around it."""
        cast = self.dtype is not None and value.is_floating_point()
        return value.to(dtype) if cast else value

    def keeping(self, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """What moves and casts tensors, without the casting if the precision is set."""
        if self.dtype is None:
            return function
        # Cast there and back, they would lose digits.
        return lambda tensor: tensor.to(function(tensor.new_empty(0)).device)


def _in_float32(value: Any) -> Any:
    is_float = isinstance(value, Tensor) and value.is_floating_point()
    return value.float() if is_float else value


def _uses_weights_plainly(module: nn.Module) -> bool:
    if not isinstance(module, (*_CONVOLUTIONS, nn.Linear)) or 'weight' not in module._parameters:
        return False
    cls = type(module)
    return cls.forward in _PLAIN_FORWARDS or cls.__module__ in _PLAIN_MODULES


class ChannelsLast:
    """Channels-last weights for the 2-d convolutions of a model; can be undone.

    ``model.to(memory_format=...)`` refuses 5-d weights, and it changes those of which models take
    views: position embeddings, weights to be standardised.

    mmcv's own operations (RoIAlign, deformable convolutions) read channels-last maps as if they
    were not, without an error. They get contiguous ones, and what is inside of them stays as it is.

    Args:
        model: The model; its weights lie elsewhere in memory afterwards, with the same values.
    """

    def __init__(self, model: nn.Module) -> None:
        operations, inside = _mmcv_operations(model)
        self._hooks = [
            module.register_forward_pre_hook(_with_contiguous_inputs, with_kwargs=True)
            for module in operations
        ]
        self._convolutions = [
            module
            for module in model.modules()
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
            and _uses_weights_plainly(module)
            and module not in inside
        ]
        self._set(torch.channels_last)

    def _set(self, memory_format: torch.memory_format) -> None:
        for module in self._convolutions:
            module.weight.data = module.weight.data.contiguous(memory_format=memory_format)

    def undo(self) -> None:
        """Back to contiguous weights."""
        self._set(torch.contiguous_format)
        for hook in self._hooks:
            hook.remove()


def _mmcv_operations(model: nn.Module) -> Tuple[List[nn.Module], Set[nn.Module]]:
    """mmcv's own operations in a model, and these with all modules inside of them."""
    operations = [
        module
        for module in model.modules()
        if any(cls.__module__.startswith('mmcv.ops.') for cls in type(module).__mro__)
    ]
    return operations, {part for module in operations for part in module.modules()}


def _with_contiguous_inputs(module: nn.Module, args: tuple, kwargs: dict) -> Tuple[tuple, dict]:
    return tree_map(lambda x: x.contiguous() if isinstance(x, Tensor) else x, (args, kwargs))


def _computing_in_float32(forward: Callable) -> Callable:
    """A forward whose inputs are float32, and whose output has the precision of its first one."""

    @functools.wraps(forward)
    def run(*args, **kwargs):
        given = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(given.device.type, enabled=False):
            output = forward(*tree_map(_in_float32, args), **tree_map(_in_float32, kwargs))
        return tree_map(lambda x: x.to(given.dtype) if isinstance(x, Tensor) else x, output)

    return run


def compile_children(model: nn.Module, paths: Iterable[FeaturePath]) -> List[str]:
    """Run the direct children of a model through ``torch.compile``, from their first call on.

    Those that hold a captured or fed module inside are left alone: what wraps its ``forward``
    is Python that cannot be compiled. A child that is such a module itself is compiled inside of
    its wrapper.

    Returns:
        The names of the compiled children.
    """
    holding = {path.module.partition('.')[0] for path in paths if '.' in path.module}
    compiled = []
    for name, child in model.named_children():
        # Containers have no forward of their own.
        runs = type(child).forward is not nn.Module.forward and name != 'data_preprocessor'
        if runs and name not in holding:
            # On the instance, where the capture finds it and wraps it.
            child.forward = torch.compile(child.forward)
            compiled.append(name)
    return compiled


def keep_if_equal(
    switch: str, undo: Callable[[], None], run: Callable[[], Features], reference: Features
) -> bool:
    """Undo a change of the teacher unless its features are still the same, and say so.

    Args:
        switch: The key of the config's ``teacher`` that asked for the change.
        undo: Takes the change back.
        run: Yields the features after the change.
        reference: The features before.

    Returns:
        Whether the change stays.
    """
    try:
        difference = relative_difference(run(), reference)
    except Exception as error:
        # Hosts may read a folded batch norm's attributes, or need contiguous maps.
        problem = f'the teacher would fail with it: {error}'
    else:
        if difference <= TOLERANCE:
            return True
        problem = f'features would differ by {difference:.1e} of their largest element'
    undo()
    print_log(
        f'teacher.{switch} was taken back, {problem}. Nothing is wrong with the teacher, it only '
        f'runs without; {switch}=False in teacher silences this warning.',
        'current',
        logging.WARNING,
    )
    return False


def relative_difference(features: Features, reference: Features) -> float:
    """The largest difference of a feature, relative to the largest element of that feature.

    Returns:
        Not a number if a feature has such elements; infinity if the shapes differ.
    """
    ratios = [0.0]
    for path, expected in reference.items():
        found = features[path]
        if [tensor.shape for tensor in found] != [tensor.shape for tensor in expected]:
            return math.inf
        for ours, theirs in zip(found, expected):
            # Without elements, or equal: also if all are zero, or infinite.
            if not torch.equal(ours, theirs):
                difference = (ours.double() - theirs.double()).abs().max()
                ratios.append(float(difference / theirs.double().abs().max()))
    return math.nan if any(map(math.isnan, ratios)) else max(ratios)
