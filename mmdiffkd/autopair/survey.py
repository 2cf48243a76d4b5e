"""Survey: what every module of a model yields for a made-up image."""

import functools
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional

import torch
from torch import Tensor, nn

from mmdiffkd.capture import wrapped_forward
from mmdiffkd.errors import ConfigError
from mmdiffkd.messages import tell
from mmdiffkd.models import dry_run
from mmdiffkd.models.hosts import run_completely
from mmdiffkd.models.shapes import MapShape, strides_of, token_layout

# Two images show which dimension is the batch, and let batch norm work on maps of one pixel.
_TRAINING_BATCH = 2

# Name of each module to its outputs, one per call, with shapes in place of tensors, tuples in place
# of lists and None in place of anything else.
Calls = Dict[str, List[Any]]


@dataclass
class Survey:
    """What the modules of a model yield for one image of a shape (C, H, W).

    ``order`` names the modules that ran, the last to end first. ``trained`` is like ``calls``, for
    two images in training, with None for frozen tensors; or None if training does not matter.
    """

    model: nn.Module
    shape: dry_run.ImageShape
    calls: Calls
    trained: Optional[Calls]
    order: List[str]

    def maps(self, name: str) -> Optional[List[MapShape]]:
        """The shapes of a module's maps, or None if it yields other things or others in training.

        Vectors and the tokens of patches count as maps.
        """
        shapes = _flat(self.calls.get(name, ()))
        if not shapes or any(shape is None or shape[:1] != (1,) for shape in shapes):
            return None
        if self.trained is not None:
            trained = _flat(self.trained[name])
            expected = [(_TRAINING_BATCH, *shape[1:]) for shape in shapes]
            # One frozen level of several does no harm.
            if not any(trained) or [t or e for t, e in zip_longest(trained, expected)] != expected:
                return None
        maps = [self._map_shape(shape) for shape in shapes]
        return None if None in maps else maps

    def channels(self, name: str, dimensions: int) -> Optional[int]:
        """The channels of a module that yields one map of so many dimensions and nothing else."""
        calls, maps = self.calls[name], self.maps(name)
        alone = len(calls) == 1 and isinstance(calls[0], torch.Size)
        return maps[0][0] if maps and alone and len(calls[0]) == dimensions else None

    def num_classes(self, dimensions: int) -> Optional[int]:
        """The channels of the first tensor of so many dimensions that the whole model yields."""
        shapes = _flat(self.calls[''])
        return next((shape[1] for shape in shapes if shape and len(shape) == dimensions), None)

    def last_to_first(self, *roots: str) -> Iterator[str]:
        """Those names of ``order`` that are of modules in (and including) ``roots``."""
        return (name for name in self.order if name.partition('.')[0] in roots)

    def table(self, title: str) -> str:
        """A table with a line for every module that yields tensors."""
        rows = [(title, '', ''), ('path', 'module', f'yields for an image of {self.shape}')]
        for name, module in self.model.named_modules():
            calls = self.calls[name]
            if any(_flat(calls)):
                number = f'{len(calls)} calls: ' if len(calls) > 1 else ''
                rows.append((name or '(model)', type(module).__name__, number + _text(calls)[1:-1]))
        return '\n'.join(f'{path:40}  {kind:24}  {shapes}' for path, kind, shapes in rows)

    def _map_shape(self, shape: torch.Size) -> Optional[MapShape]:
        height, width = size = self.shape[1:]
        if len(shape) == 4:
            # Rounding apart, a map has one stride; one whose channels come last has two.
            ratio = (height / shape[2]) / (width / shape[3])
            return tuple(shape[1:]) if 0.6 < ratio < 1.7 else None
        if len(shape) == 2:
            return shape[1], 1, 1
        layout = token_layout([(shape[1], size)], strides_of(self.model)) if len(shape) == 3 else 0
        return (shape[2], *layout.grid(shape[1], size)) if layout else None


def survey(
    model: nn.Module,
    role: str,
    shapes: Iterable[dry_run.ImageShape],
    complete: bool = True,
    trains: bool = False,
) -> Survey:
    """Run a model on the first image shape that it takes, and look at what its modules yield.

    ``role`` names the model in errors. With ``complete`` it runs on behind backbone and neck, if it
    can; with ``trains`` also once in training, which changes its batch norm statistics.
    """

    def look(run: Callable, shape: dry_run.ImageShape) -> Survey:
        batch, trained = dry_run.blank_batch(shape), None
        with dry_run.undisturbed(model), dry_run.blaming(role, batch[0]):
            calls, order = _recorded(model, run, *batch)
            if trains:
                model.train()
                batch = dry_run.random_batch(shape, _TRAINING_BATCH)
                with torch.enable_grad():
                    trained, _ = _recorded(model, run, *batch)
        return Survey(model, shape, calls, trained, order)

    if complete:
        try:
            return dry_run.first_accepted(shapes, functools.partial(look, run_completely))
        except ConfigError as error:
            if not hasattr(model, 'extract_feat'):
                raise
            tell(f'Only backbone and neck of the {role} can be paired: {error}')
    to_neck = functools.partial(look, lambda model, images, _: model.extract_feat(images))
    return dry_run.first_accepted(shapes, to_neck)


def _recorded(model: nn.Module, run: Callable, images: Tensor, samples: List):
    """Run a model; returns ``calls`` and ``order`` of a :class:`Survey`."""
    calls: Calls = {name: [] for name, _ in model.named_modules()}
    ended: List[str] = []

    def recording(name: str, forward: Callable) -> Callable:
        @functools.wraps(forward)
        def recorded_forward(*args, **kwargs):
            output = forward(*args, **kwargs)
            calls[name].append(_shapes_of(output))
            ended.append(name)
            return output

        return recorded_forward

    with ExitStack() as wrapped:
        for name, module in model.named_modules():
            # A hook would miss mmseg's heads, whose forward is called directly.
            wrapped.enter_context(wrapped_forward(module, functools.partial(recording, name)))
        run(model, images, samples)
    return calls, list(dict.fromkeys(reversed(ended)))


def _shapes_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape if value.requires_grad or not torch.is_grad_enabled() else None
    return tuple(map(_shapes_of, value)) if isinstance(value, (tuple, list)) else None


def _flat(calls: Iterable) -> List[Optional[torch.Size]]:
    """What several calls yield in a row; None for what is no tensor, or nested."""
    parts = [part for call in calls for part in (call if type(call) is tuple else (call,))]
    return [part if isinstance(part, torch.Size) else None for part in parts]


def _text(output: Any) -> str:
    if isinstance(output, torch.Size):
        return 'x'.join(map(str, output[1:]))
    return f'[{", ".join(map(_text, output))}]' if output else '-'
