"""Where a model yields something that can be paired, found by looking at what its modules yield."""

from typing import Collection, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import torch
from mmengine.logging import print_log
from torch import nn

from mmdiffkd.autopair.survey import ModuleRecord, TensorSpec, surveyed
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.dry_run import (
    ImageShape,
    annotated_batch,
    blaming,
    blank_batch,
    first_accepted,
    undisturbed,
)
from mmdiffkd.models.hosts import run_completely
from mmdiffkd.models.levels import MapShape
from mmdiffkd.models.shapes import Size, strides_of, token_layout

# Two images tell what belongs to the batch from what does not, and let batch norm work on 1x1 maps.
_TRAINING_BATCH = 2


class ModelView:
    """What the modules of one model yield, as far as it can be paired.

    Args:
        records: Of a forward of one image in evaluation, as :func:`surveyed` gives them.
        shape: Channels, height and width of that image, in pixels.
        trained: Of a forward in training; with them only those modules count that yield the same
            in both, with a gradient. None for a teacher.
        complete: Whether the forwards went on behind backbone and neck.
        strides: Those of the model's modules, which tell tokens of patches from others.
    """

    def __init__(
        self,
        records: Dict[str, ModuleRecord],
        shape: ImageShape,
        trained: Optional[Dict[str, ModuleRecord]] = None,
        complete: bool = True,
        strides: Collection[int] = (),
    ) -> None:
        self.records = records
        self.shape = shape
        self.trained = trained
        self.complete = complete
        self.strides = strides

    def maps(self, name: str) -> Optional[List[MapShape]]:
        """The maps that a module yields, one per tensor, or None if it cannot be paired.

        Args:
            name: Of the module.
        """
        specs = _flat(self.records[name].calls) if name in self.records else None
        if not specs or any(spec.shape[:1] != (1,) for spec in specs):
            return None
        if self.trained is not None and not _agree(specs, self._trained_specs(name)):
            return None
        shapes = [self._map_shape(spec.shape) for spec in specs]
        return None if None in shapes else shapes

    def learns(self, name: str) -> List[bool]:
        """For each map of :meth:`maps`, whether a gradient flows into it in training."""
        if self.trained is None:
            return [True for _ in self.maps(name)]
        return [spec.trains for spec in self._trained_specs(name)]

    def tensor(self, name: str, dimensions: int) -> Optional[MapShape]:
        """The map of a module that yields one tensor of so many dimensions and nothing else."""
        calls = self.records[name].calls
        if len(calls) == 1 and isinstance(calls[0], TensorSpec):
            maps = self.maps(name)
            if maps and len(calls[0].shape) == dimensions:
                return maps[0]
        return None

    def last_to_first(self, *roots: str) -> Iterator[str]:
        """Names of the modules in (and including) ``roots`` that ran, the last to finish first."""
        ran = [record for record in self.records.values() if record.calls]
        for record in sorted(ran, key=lambda record: -record.finished):
            if record.name.partition('.')[0] in roots:
                yield record.name

    def last_map(self, *roots: str) -> Optional[str]:
        """Path of the last map larger than a pixel in ``roots``, or None.

        Args:
            roots: Direct children of the model. Of those themselves the last of several outputs
                counts.
        """
        for name in self.last_to_first(*roots):
            maps = self.maps(name)
            several = maps is not None and len(maps) > 1
            if not maps or maps[-1][1] * maps[-1][2] == 1:
                continue
            if not several:
                return name
            if name in roots and len(self.records[name].calls) == 1:
                return f'{name}[-1]'
        return None

    def outputs(self, dimensions: int) -> List[TensorSpec]:
        """The tensors of so many dimensions that the whole model yields, in order."""
        found = _specs_in(tuple(self.records[''].calls))
        return [spec for spec in found if len(spec.shape) == dimensions]

    def _trained_specs(self, name: str) -> Optional[List[TensorSpec]]:
        return _flat(self.trained[name].calls)

    def _map_shape(self, shape: Tuple[int, ...]) -> Optional[MapShape]:
        if len(shape) == 4:
            return shape[1:] if _has_one_stride(shape[2:], self.shape[1:]) else None
        if len(shape) == 2:
            return shape[1], 1, 1
        if len(shape) == 3:
            size = self.shape[1:]
            layout = token_layout([(shape[1], size)], self.strides)
            return layout and (shape[2], *layout.grid(shape[1], size))
        return None


def _has_one_stride(size: Size, image_size: Size) -> bool:
    """Whether a map's height and width can come of the same stride, rounded up or down.

    Those of a map whose channels come last cannot.
    """
    (height, width), (image_height, image_width) = size, image_size
    too_wide = image_height * (width - 1) >= image_width * (height + 1)
    too_high = image_width * (height - 1) >= image_height * (width + 1)
    return not (too_wide or too_high)


def view_model(
    model: nn.Module, role: str, shapes: Iterable[ImageShape], complete: bool, trains: bool
) -> ModelView:
    """Run a model on made-up images and look at what its modules yield.

    Args:
        model: A host's model. Its batch norm statistics change if ``trains``.
        role: Named in errors, ``'student'`` or ``'teacher'``.
        shapes: Channels, height and width of the images to try.
        complete: Go on behind backbone and neck, if the model can.
        trains: Look also at a step of training.

    Raises:
        ConfigError: If the model takes none of the images.
    """

    def evaluate(shape: ImageShape, complete: bool) -> Tuple[ImageShape, Dict[str, ModuleRecord]]:
        image, samples = blank_batch(shape)
        with undisturbed(model), blaming(role, image), surveyed(model) as records:
            if complete:
                run_completely(model, image, samples)
            else:
                model.extract_feat(image)
        return shape, records

    if complete:
        try:
            shape, records = first_accepted(shapes, lambda shape: evaluate(shape, True))
        except ConfigError as error:
            if not hasattr(model, 'extract_feat'):
                raise
            complete = False
            print_log(f'Only backbone and neck of the {role} can be paired: {error}', 'current')
    if not complete:
        shape, records = first_accepted(shapes, lambda shape: evaluate(shape, False))
    trained = _train(model, shape, complete) if trains else None
    return ModelView(records, shape, trained, complete, strides_of(model))


def _train(model: nn.Module, shape: ImageShape, complete: bool) -> Dict[str, ModuleRecord]:
    """What the modules yield in training."""
    images, samples = annotated_batch(shape, _TRAINING_BATCH)
    model.train()
    with torch.random.fork_rng(), torch.enable_grad():
        if complete:
            try:
                with surveyed(model) as records:
                    model(images, samples, mode='loss')
                return records
            except Exception as error:
                # A loss may ask for annotations of another kind; what leads to it matters here.
                print_log(f'The loss of made-up annotations failed: {error!r}', 'current')
        with surveyed(model) as records:
            if complete:
                run_completely(model, images, samples)
            else:
                model.extract_feat(images)
    return records


def _specs_in(value) -> Iterator[TensorSpec]:
    """All tensors in a nested output, in order."""
    if isinstance(value, TensorSpec):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _specs_in(item)


def _flat(calls: Sequence) -> Optional[List[TensorSpec]]:
    """The tensors that a capture of these calls holds, or None if it would refuse one."""
    specs: List[TensorSpec] = []
    for output in calls:
        parts = output if isinstance(output, tuple) else (output,)
        if not parts or not all(isinstance(part, TensorSpec) for part in parts):
            return None
        specs += parts
    return specs


def _agree(evaluated: Sequence[TensorSpec], trained: Optional[Sequence[TensorSpec]]) -> bool:
    """Whether training yields the same tensors as evaluation, with a gradient."""
    return (
        trained is not None
        and len(trained) == len(evaluated)
        and any(spec.trains for spec in trained)
        and all(
            t.shape[0] == _TRAINING_BATCH and t.shape[1:] == e.shape[1:]
            for t, e in zip(trained, evaluated)
        )
    )
