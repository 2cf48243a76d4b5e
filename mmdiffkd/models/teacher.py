"""How a teacher runs: in evaluation mode, without gradients, and no further than needed."""

import copy
import logging
import weakref
from contextlib import ExitStack
from functools import cached_property, partial
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdiffkd.capture import FeatureCapture, replaced_input
from mmdiffkd.diffusion.precision import at_least_float32
from mmdiffkd.errors import ConfigError, describe
from mmdiffkd.messages import tell
from mmdiffkd.models.classes import Classes, classes_of_config
from mmdiffkd.models.dry_run import undisturbed
from mmdiffkd.models.hosts import is_plain, run_for_features
from mmdiffkd.models.input_matching import StudentInput, teacher_converter
from mmdiffkd.models.pair import DistillPair
from mmdiffkd.models.preprocessing import InputConverter
from mmdiffkd.models.shapes import Size
from mmdiffkd.models.teacher_speed import (
    Features,
    Precision,
    compile_children,
    fold_batch_norms,
    relative_difference,
    use_channels_last,
)

# Largest difference of a feature, relative to its largest element, that a change which is to leave
# features alone may make. Rounding in float32 makes about 1e-6.
TOLERANCE = 1e-4


class Teacher:
    """A model that only yields features.

    It is no ``nn.Module`` on purpose: held by a distiller it stays out of its parameters, state
    dict, optimizer and DDP buckets, and ``train()`` does not reach it. Copies of the distiller
    (EMA) share it.

    Args:
        model: The model.
        config: Its config, in whose data sets its input and its classes may be found.
        input: Pictures that it was trained on, see :class:`FrozenTeacher`.
        classes: Names of its classes in the order of its scores, if they are known.
        precision: Precision of the forward, see :class:`FrozenTeacher`.
        image_size: Height and width in pixels to which it resizes the student's images, if it does.
        switches: Names of the changes that :meth:`optimize` makes -> whether it makes them.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Any,
        input: Any = None,
        classes: Classes = None,
        precision: Optional[str] = None,
        image_size: Optional[Size] = None,
        **switches: bool,
    ) -> None:
        self.model, self.config, self.input, self._classes = model, config, input, classes
        self.image_size = image_size
        self.switches = switches
        self.model.requires_grad_(False)
        self.model.eval()
        self.capture: Optional[FeatureCapture] = None
        self.converter: Optional[InputConverter] = None
        self.kept_weights: Dict[str, Mapping[str, Tensor]] = {}
        # The precision that the teacher computes in now, and the one `optimize` switches to.
        self._precision, self._wanted_precision = Precision(None), Precision(precision)
        self._runs_channels_last = False
        self._counts: Dict[str, int] = {}
        self._owner: Callable[[], Any] = lambda: None

    def prepare(self, distiller: nn.Module, paths: Iterable[str], student: StudentInput) -> None:
        """Say who owns the teacher, what will be captured and what the inputs will be.

        Args:
            distiller: Distiller with which the teacher moves to devices.
            paths: Module paths of the teacher.
            student: Format of the student's batches.
        """
        self._owner = weakref.ref(distiller)
        self.capture = FeatureCapture(self.model, paths, role='teacher')
        self.converter = teacher_converter(self.config, self.model, self.input, student)

    @property
    def predicts(self) -> bool:
        """Whether the model yields predictions that can be evaluated, and not features alone."""
        return not is_plain(self.model)

    @cached_property
    def classes(self) -> Classes:
        """Names of the teacher's classes in the order of its scores; None if they are unknown."""
        return tuple(self._classes or ()) or classes_of_config(self.config)

    def keep_weights(self, names: Iterable[str]) -> None:
        """Keep the weights of the named modules, which :meth:`optimize` may change, as they are."""
        self.kept_weights = {name: self.model.get_submodule(name).state_dict() for name in names}

    @torch.no_grad()
    def features(
        self,
        inputs: Tensor,
        data_samples: Any,
        pairs: Sequence[DistillPair],
        student_features: Mapping[str, Sequence[Tensor]],
    ) -> Features:
        """Run the teacher on the student's batch, as far as some pairs need it.

        A forward ends when all that is wanted has been captured: as many tensors as the first
        forward yielded, or, behind inputs of the student, as many as the student's own module.

        Args:
            inputs: Images prepared for the student, (N, C, H, W).
            data_samples: Data samples of the student.
            pairs: Pairs that need features; without any the teacher does not run.
            student_features: Path -> captured tensors of the student.

        Returns:
            Name of the pair -> captured tensors, without gradient.
        """
        found: Features = {}
        converted = self.convert(inputs, data_samples) if pairs else inputs
        for group in sharing_forwards(pairs):
            counts = {
                pair.teacher_path: len(student_features[pair.student_path])
                if pair.replaced
                else self._counts.get(pair.teacher_path)
                for pair in group
            }
            capture = self.capture.subset(counts)
            capture.stop_after = {} if None in counts.values() else counts
            # The capture is outermost: it receives what ends the forward early.
            with capture as features, ExitStack() as stack:
                for path, text in group[0].replaced.items():
                    values = map(self._precision.of_input, student_features[text])
                    stack.enter_context(replaced_input(self.model, path, values, role='teacher'))
                stack.enter_context(self._precision.autocast(inputs.device))
                run_for_features(self.model, features, converted, data_samples)
            for pair in group:
                tensors = features[pair.teacher_path]
                self._counts.setdefault(pair.teacher_path, len(tensors))
                found[pair.name] = [self._precision.of_output(x, inputs.dtype) for x in tensors]
        return found

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: Any = None) -> List:
        """The teacher's predictions as data samples of the host, computed as its features are."""
        if not self.predicts:
            raise ConfigError(
                f'teacher.config: {type(self.model).__name__} yields features and no predictions; '
                f'leave the check of the teacher out (TeacherCheckHook, --check-teacher)'
            )
        with self._precision.autocast(inputs.device):
            return self.model(self.convert(inputs, data_samples), data_samples, mode='predict')

    def convert(self, inputs: Tensor, data_samples: Any) -> Tensor:
        """The images of the student as the teacher was trained on, in its precision and format."""
        inputs = self.converter(inputs, data_samples)
        if self.image_size not in (None, inputs.shape[-2:]):
            # Half precision has no such interpolation on a CPU.
            images = at_least_float32(inputs)
            images = F.interpolate(images, self.image_size, mode='bilinear', antialias=True)
            inputs = images.to(inputs)
        inputs = self._precision.of_input(inputs)
        if self._runs_channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs

    def optimize(self, run: Callable[[], Features], replaced: Iterable[str] = ()) -> None:
        """Make all following forwards cheaper, as the constructor's switches say.

        Args:
            run: Function that yields the features of an image, which are to stay the same.
            replaced: Names of the modules that get inputs of the student.
        """
        captured = [path.module for path in self.capture.paths]
        fold_bn = partial(fold_batch_norms, captured=captured)
        changes = dict(fold_bn=fold_bn, channels_last=use_channels_last)
        changes = {name: change for name, change in changes.items() if self.switches.get(name)}
        with undisturbed(self.model):
            reference = run()
            if changes and self._problem_of(changes, run, reference):
                for name, change in changes.items():
                    if problem := self._problem_of({name: change}, run, reference):
                        tell(
                            f'The teacher runs without {name}, because {problem}. Nothing is wrong '
                            f'with it; {name}=False in teacher silences this warning.',
                            logging.WARNING,
                        )
        self._precision = self._wanted_precision
        self._precision.apply_to(self.model)
        if self.switches.get('compile'):
            names = compile_children(self.model, [*captured, *replaced])
            tell(f'teacher.compile: {", ".join(names) or "nothing to compile"}')

    def _problem_of(
        self,
        changes: Mapping[str, Callable[[nn.Module], None]],
        run: Callable[[], Features],
        reference: Features,
    ) -> str:
        """Go on with a changed copy of the model if it yields the same features.

        Returns why the model stays as it was, or an empty text.
        """
        before = self.model, self.capture, self._runs_channels_last
        try:
            self.model = copy.deepcopy(self.model)
            self.capture = FeatureCapture(self.model, self.capture.texts, role='teacher')
            self._runs_channels_last |= 'channels_last' in changes
            for change in changes.values():
                change(self.model)
            difference = relative_difference(run(), reference)
            problem = f'its features would differ by {difference:.1e} of their largest element'
        except Exception as error:
            # A model may read attributes of a batch norm that is gone, or need contiguous maps.
            difference, problem = float('nan'), f'it would fail: {describe(error)}'
        if difference <= TOLERANCE:
            return ''
        self.model, self.capture, self._runs_channels_last = before
        return problem

    def move_with(self, distiller: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        """Apply a function that moves or casts tensors, if it is the owner that is moved.

        A copy, such as an average of weights on the CPU, leaves the teacher where it is.
        """
        if self._owner() in (None, distiller):
            self._owner = weakref.ref(distiller)
            self.model._apply(self._precision.of_move(function))
            if self.converter is not None:
                self.converter._apply(self._precision.of_move(function))

    def __deepcopy__(self, memo: Dict) -> 'Teacher':
        return self


def sharing_forwards(pairs: Sequence[DistillPair]) -> List[List[DistillPair]]:
    """The pairs in groups that share a forward, because they replace the same inputs.

    With other inputs for one module, what a host does with that module's output may fail, so a
    later module gets its inputs in a forward of its own. Pairs that replace nothing are added to
    the first group.
    """
    groups: Dict[Any, List[DistillPair]] = {}
    for pair in pairs:
        groups.setdefault(frozenset(pair.replaced.items()), []).append(pair)
    plain = groups.pop(frozenset(), [])
    first, *others = groups.values() or [[]]
    return [group for group in ([*first, *plain], *others) if group]
