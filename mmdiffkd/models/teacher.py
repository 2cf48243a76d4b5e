"""The teacher: loaded strictly, never trained, never saved, run no further than needed."""

import logging
import re
import weakref
from contextlib import ExitStack
from functools import cached_property
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmdiffkd.capture import FeatureCapture, FeaturePath, replaced_input
from mmdiffkd.checkpoints.download import fetch
from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.checkpoints.weights import (
    fitting_prefixes,
    load_strictly,
    tensors_in,
    weights_of,
)
from mmdiffkd.errors import CheckpointError, ConfigError
from mmdiffkd.models.classes import Classes, classes_of_config, classes_of_file
from mmdiffkd.models.dry_run import undisturbed
from mmdiffkd.models.folding import ConvNormTrace, Folding
from mmdiffkd.models.hosts import (
    build_model,
    is_plain,
    load_config,
    run_for_features,
    untrained_config,
)
from mmdiffkd.models.inference import (
    ChannelsLast,
    Features,
    Precision,
    check_switches,
    compile_children,
    keep_if_equal,
)
from mmdiffkd.models.input_matching import StudentInput, teacher_converter
from mmdiffkd.models.preprocessing import InputConverter


class FrozenTeacher:
    """A pretrained model that only yields features.

    It is no ``nn.Module`` on purpose: held by a distiller it stays out of its parameters, state
    dict, optimizer and DDP buckets, and ``train()`` does not reach it. Copies of the distiller
    (EMA) share it.

    Args:
        config: A config path, a ``library::name`` or a model dict.
        checkpoint: A path, a URL, ``'zoo'`` for the weight that the library publishes for
            ``config``, or ``'random'`` for no weights at all (tests and smoke runs).
        ignore_keys: Regular expressions for checkpoint keys that may not fit.
        trust_checkpoint: Unpickle whatever the checkpoint contains; see
            :func:`mmdiffkd.checkpoints.reading.load_file`.
        prefix: Where in the checkpoint the teacher's weights are, if not at the beginning of their
            names; see :func:`mmdiffkd.checkpoints.weights.weights_of`.
        classes: Names of the teacher's classes in the order of its scores, if they are not as the
            checkpoint's meta information or else the data sets of ``config`` call them.
        fold_bn: Make batch norms part of the convolutions they follow (:mod:`.folding`): fewer
            operations, same features up to rounding. On a random image the features are compared
            with those before; if they differ, folding is taken back with a warning, which
            ``False`` silences.
        channels_last: Run on channels-last maps, which convolutions prefer on most devices; the
            features of a convolutional model are channels-last too. Checked and taken back like
            ``fold_bn``. Turn it off where the device is faster without.
        precision: What the teacher computes in: ``'bf16'`` or ``'fp16'`` are autocast, with the
            weights of convolutions and linear layers held in that type; ``'fp32'`` keeps it in
            float32 also in a run with ``--amp``; None does as the run does. Low precision takes
            half the memory of those weights and about half the time on hardware that has it, and
            changes the features (bfloat16: by about 2 % of their largest element in a RetinaNet).
            With a precision set, features come in the type of ``inputs``, and
            ``distiller.half()`` and the like only move the teacher.
        compile: Run those direct children of the model through ``torch.compile`` that hold no
            captured module inside (a captured child is fine). The first steps take a while, also
            the first of a new image size. It does not pay on a CPU (1 or 2 %); it was not measured
            on a GPU.
        input: What pictures the teacher was trained on, where its config does not tell:
            ``dict(mean=[...], std=[...], rgb=True)`` with one number per channel of pixels from 0
            to 255, or ``'student'`` for those that the student gets.

    Raises:
        ConfigError: If no checkpoint is given, a switch has an unknown value or the config cannot
            be built.
        CheckpointError: If the checkpoint cannot be read or does not fit.
    """

    KEYS = (
        'config', 'checkpoint', 'ignore_keys', 'trust_checkpoint', 'prefix', 'classes', 'fold_bn',
        'channels_last', 'precision', 'compile', 'input',
    )  # fmt: skip

    def __init__(
        self,
        config: Any,
        checkpoint: str,
        ignore_keys: Sequence[str] = (),
        trust_checkpoint: bool = False,
        prefix: str = '',
        classes: Optional[Sequence[str]] = None,
        fold_bn: bool = True,
        channels_last: bool = True,
        precision: Optional[str] = None,
        compile: bool = False,
        input: Any = None,
    ) -> None:
        _check_patterns(ignore_keys)
        check_switches(
            precision,
            trust_checkpoint=trust_checkpoint,
            fold_bn=fold_bn,
            channels_last=channels_last,
            compile=compile,
        )
        self.config, self.input = config, input
        self._classes = classes
        self.has_random_weights = checkpoint == 'random'
        if self.has_random_weights:
            self.model = build_model(untrained_config(config, 'teacher.config'), 'teacher.config')
            # Before it some weights are whatever was in the memory. Torch's own modules have none.
            if hasattr(self.model, 'init_weights'):
                self.model.init_weights()
            print_log(
                'The teacher has random weights (teacher.checkpoint="random"): good for a smoke '
                'run, nothing can be learned from it.',
                'current',
                logging.WARNING,
            )
        else:
            self.model = build_model(config, 'teacher.config')
            listed = load_teacher_weights(
                self.model, config, checkpoint, ignore_keys, trust_checkpoint, prefix
            )
            self._classes = classes or listed
        self.model.requires_grad_(False)
        self.model.eval()
        self.converter: Optional[InputConverter] = None
        self.capture: Optional[FeatureCapture] = None
        self.fold_bn, self.channels_last, self.compile = fold_bn, channels_last, compile
        # The precision of now, and of after `optimize`.
        self._precision, self._wanted_precision = Precision(None), Precision(precision)
        self._runs_channels_last = False
        self.kept_weights: Dict[str, Mapping[str, Tensor]] = {}
        self._distiller: Optional[weakref.ref] = None

    def prepare(self, paths: Iterable[str], student: StudentInput) -> None:
        """Say what to capture and what the inputs of :meth:`features` are.

        Args:
            paths: Module paths of the teacher.
            student: What the student's batches look like.
        """
        self.capture = FeatureCapture(self.model, paths, role='teacher')
        self.converter = teacher_converter(self.config, self.model, self.input, student)

    @cached_property
    def classes(self) -> Classes:
        """The names of its classes, in the order of its scores, if they are known."""
        return tuple(self._classes or ()) or classes_of_config(self.config)

    def keep_weights(self, names: Iterable[str]) -> None:
        """Keep the weights of some modules as they are now in ``kept_weights``.

        Nothing is copied: :meth:`optimize` makes new tensors of what it changes.
        """
        self.kept_weights = {name: self.model.get_submodule(name).state_dict() for name in names}

    @torch.no_grad()
    def features(
        self,
        inputs: Tensor,
        data_samples: Optional[Sequence] = None,
        replacements: Optional[Mapping[FeaturePath, Sequence[Tensor]]] = None,
        paths: Optional[Iterable[str]] = None,
    ) -> Features:
        """Run the teacher on the student's batch.

        Args:
            inputs: Images prepared for the student, (N, C, H, W).
            data_samples: The student's data samples.
            replacements: Per input path of the teacher, what its module gets instead, one tensor
                per call.
            paths: What to capture, if not all that :meth:`prepare` said. For an empty list the
                teacher does not run.

        Returns:
            Per path the captured tensors, without gradient.
        """
        capture = self.capture if paths is None else self.capture.subset(paths)
        if not capture.paths:
            return {}
        dtype = inputs.dtype
        inputs = self._as_it_runs(self.converter(inputs, data_samples))
        # The capture is outermost: it receives what ends the forward early.
        with capture as features, ExitStack() as stack:
            for path, values in (replacements or {}).items():
                values = map(self._precision.of_input, values)
                stack.enter_context(replaced_input(self.model, path, values, role='teacher'))
            stack.enter_context(self._precision.autocast(inputs.device))
            run_for_features(self.model, features, inputs, data_samples)
        return {
            path: [self._precision.of_output(tensor, dtype) for tensor in tensors]
            for path, tensors in features.items()
        }

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: Optional[Sequence] = None) -> List:
        """The teacher's own predictions, computed as its features are.

        Args:
            inputs: Images prepared for the student, (N, C, H, W).
            data_samples: The student's data samples.

        Returns:
            The host's data samples.
        """
        if is_plain(self.model):
            raise ConfigError(
                f'teacher.config: {type(self.model).__name__} yields features and no predictions; '
                f'leave the check of the teacher out (TeacherCheckHook, --check-teacher)'
            )
        inputs = self._as_it_runs(self.converter(inputs, data_samples))
        with self._precision.autocast(inputs.device):
            return self.model(inputs, data_samples, mode='predict')

    def _as_it_runs(self, inputs: Tensor) -> Tensor:
        """The teacher's inputs in its precision and memory format."""
        inputs = self._precision.of_input(inputs)
        if self._runs_channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs

    def optimize(
        self,
        inputs: Tensor,
        data_samples: Optional[Sequence] = None,
        replacements: Optional[Mapping[FeaturePath, Sequence[Tensor]]] = None,
        run: Optional[Callable[[], Features]] = None,
    ) -> None:
        """Make all following forwards cheaper, as the constructor's switches say.

        Args:
            inputs: Images to try it on, (N, C, H, W), prepared for the student.
            data_samples: As for :meth:`features`.
            replacements: As for :meth:`features`; the modules that will always be fed.
            run: Yields the features that are to stay the same, if :meth:`features` cannot yield
                them with all replacements in one forward.
        """
        features = run or (lambda: self.features(inputs, data_samples, replacements))

        def run() -> Features:
            with undisturbed(self.model):
                return features()

        if self.fold_bn or self.channels_last:
            with ConvNormTrace() as trace:
                reference = run()
        if self.fold_bn:
            self._fold(trace, run, reference)
        if self.channels_last:
            change = ChannelsLast(self.model)
            self._runs_channels_last = True
            self._runs_channels_last = keep_if_equal('channels_last', change.undo, run, reference)
        self._precision = self._wanted_precision
        self._precision.apply_to(self.model)
        if self._precision.dtype is not None:
            self._try_precision(run)
        if self.compile:
            names = compile_children(self.model, [*self.capture.paths, *(replacements or ())])
            print_log(f'teacher.compile: {", ".join(names) or "nothing to compile"}', 'current')

    def _try_precision(self, run: Callable[[], Features]) -> None:
        try:
            run()
        except Exception as error:
            # A model may have operations without it. This trial is on the CPU; where there is a
            # GPU, it says nothing about what runs there.
            if not torch.cuda.is_available():
                raise ConfigError(
                    f'teacher.precision: the teacher does not run in {self._precision.name!r} on a '
                    f'CPU: {error}'
                ) from error

    def _fold(self, trace: ConvNormTrace, run: Callable[[], Features], reference: Features) -> None:
        pairs = trace.pairs(self.model)
        if not pairs:
            return
        folding = Folding(self.model, pairs)
        if keep_if_equal('fold_bn', folding.undo, run, reference):
            print_log(f'Teacher: {len(pairs)} batch norms folded into convolutions', 'current')

    def apply_to_tensors(self, function: Callable[[Tensor], Tensor]) -> None:
        """Apply what moves or casts a module, as ``nn.Module._apply`` does."""
        function = self._precision.keeping(function)
        self.model._apply(function)
        if self.converter is not None:
            self.converter._apply(function)

    def goes_with(self, distiller: nn.Module) -> bool:
        """Whether it moves when a distiller does: its first one, or a copy if that is gone."""
        if self._distiller is None or self._distiller() is None:
            self._distiller = weakref.ref(distiller)
        return self._distiller() is distiller

    def __deepcopy__(self, memo) -> 'FrozenTeacher':
        return self


def load_teacher_weights(
    model: nn.Module,
    config: Any,
    checkpoint: str,
    ignore_keys: Sequence[str] = (),
    trust_checkpoint: bool = False,
    prefix: str = '',
) -> Classes:
    """Load a teacher's checkpoint, strictly.

    A file of a backbone alone is taken for a model that has no other weights than its backbone's.

    Args:
        model: Built from ``config``.
        config: As given in the distiller's config; ``'zoo'`` looks the weight up by it.
        checkpoint: A path, a URL or ``'zoo'``.
        ignore_keys: Regular expressions for keys that may not fit.
        trust_checkpoint: Unpickle whatever the file contains.
        prefix: See :func:`mmdiffkd.checkpoints.weights.weights_of`.

    Returns:
        The names of the classes as the file has them. What a library publishes is of the classes
        in its config, whatever older versions called them.
    """
    location = _published_weight(config) if checkpoint == 'zoo' else checkpoint
    if not isinstance(location, str):
        raise ConfigError(
            f'teacher.checkpoint must be a path, a URL, "zoo" or "random", got {location!r}'
        )
    if not isinstance(prefix, str):
        raise ConfigError(f'teacher.prefix must be a text, got {prefix!r}')
    file, weights = {}, {}
    try:
        opt_out = 'set teacher.trust_checkpoint=True'
        file = load_file(fetch(location), trust_checkpoint, opt_out)
        weights = weights_of(file, prefix)
        load_strictly(model, _of_backbone(model, weights), f'checkpoint {location!r}', ignore_keys)
    except CheckpointError as error:
        prefixes = fitting_prefixes(model, weights) or fitting_prefixes(model, tensors_in(file))
        if prefixes and not weights.keys() & model.state_dict().keys():
            raise CheckpointError(
                f'teacher.checkpoint {location!r}: the names of {type(model).__name__} are in it, '
                f'but below others; give teacher prefix={" or prefix=".join(map(repr, prefixes))}'
            ) from error
        raise CheckpointError(f'teacher.{error}') from error
    print_log(f'Teacher {type(model).__name__} loaded from {location}', 'current')
    return None if checkpoint == 'zoo' else classes_of_file(file)


def _of_backbone(model: nn.Module, weights: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """A backbone's weights under the names of a model that has no others."""
    start = 'backbone.'
    alone = all(name.startswith(start) for name in model.state_dict())
    if not alone or any(name.startswith(start) for name in weights):
        return weights
    return {f'{start}{name}': value for name, value in weights.items()}


def _check_patterns(ignore_keys: Any) -> None:
    if not isinstance(ignore_keys, (list, tuple)):
        raise ConfigError(f'teacher.ignore_keys must be a list of patterns, got {ignore_keys!r}')
    for pattern in ignore_keys:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ConfigError(
                f'teacher.ignore_keys: {pattern!r} is no regular expression: {error}'
            ) from error


def _published_weight(config: Any) -> str:
    if not isinstance(config, str) or '::' not in config:
        raise ConfigError(
            'teacher.checkpoint="zoo" needs a teacher.config that names a library, such as '
            f"'mmdet::retinanet/retinanet_r101_fpn_2x_coco.py'; got {type(config).__name__}"
        )
    cfg = load_config(config, 'teacher.config', with_weights=True)
    if cfg.get('model_path') is None:
        raise ConfigError(f'teacher.checkpoint="zoo": no weight is published for {config!r}')
    return cfg.model_path
