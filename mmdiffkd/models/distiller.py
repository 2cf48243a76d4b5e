"""The distiller: what a config names and what the runner trains."""

import logging
from functools import cache
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmdiffkd.capture import FeatureCapture
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.classes import check_classes, classes_of_data
from mmdiffkd.models.dry_run import (
    TRIAL_SIDE,
    ImageShape,
    blaming,
    blank_batch,
    first_accepted,
    random_batch,
    undisturbed,
)
from mmdiffkd.models.hosts import build_model, check_keys, run_for_features
from mmdiffkd.models.inference import Features
from mmdiffkd.models.inherit import inherit, inherited_modules
from mmdiffkd.models.input_matching import find_student_input
from mmdiffkd.models.naming import (
    STUDENT_PREFIX,
    checkpoint_name,
    end_of_loading,
    load_student,
    save_student,
)
from mmdiffkd.models.pair import DistillPair
from mmdiffkd.models.preprocessing import ExtentRecorder
from mmdiffkd.models.teacher import FrozenTeacher
from mmdiffkd.models.wiring import Wiring, check_pairs, check_student
from mmdiffkd.registry import MODELS


@MODELS.register_module()
class DiffKDDistiller(BaseModel):
    """Trains a student with its own losses and those of one or more distillation pairs.

    In ``mode='predict'`` and ``mode='tensor'`` it is the student. Its state dict holds the
    student's weights under the student's own names and everything else under ``distill.``, so
    that its checkpoints are student checkpoints.

    Args:
        student: Model dict, config path or ``library::name`` of the model to train.
        teacher: ``config`` and ``checkpoint``, and optionally how to read the checkpoint and how
            to run the teacher; see :class:`FrozenTeacher`.
        pairs: Name to ``dict(student=path, teacher=path, head=..., loss=...)``. Paths are what
            :class:`FeatureCapture` takes; without ``head`` the raw features are compared. A pair
            on what runs on proposals or queries says with ``teacher_inputs=dict(student=path,
            teacher=path)``, or a list of such, which inputs the teacher's modules get from the
            student's.
        init_from_teacher: Parts of the student that start from the teacher's weights: module
            names that both have, or a dict from student to teacher names.
        data_preprocessor: Used if ``student`` names none (mmpretrain's configs keep it beside
            the model).
        data: ``train_dataloader`` of the run, from which the distiller learns what the student's
            batches look like and what their classes are. ``mmdiffkd.DistillRunner`` fills it in.
        student_input: What the student's pictures are, where neither its data preprocessor nor
            ``data`` tells: ``dict(mean=[...], std=[...], rgb=True)`` with one number per channel of
            pixels from 0 to 255.

    Raises:
        ConfigError: If a key, a type or a path is wrong; the message names it.
        CheckpointError: If the teacher's checkpoint does not fit.
    """

    def __init__(
        self,
        student: Any,
        teacher: Dict,
        pairs: Dict[str, Dict],
        init_from_teacher: Union[Sequence[str], Dict[str, str]] = (),
        data_preprocessor: Optional[Dict] = None,
        data: Optional[Dict] = None,
        student_input: Optional[Dict] = None,
    ) -> None:
        super().__init__()
        check_pairs(pairs)
        check_keys(teacher, FrozenTeacher.KEYS, ('config', 'checkpoint'), 'teacher')
        self.student = build_model(student, 'student', data_preprocessor)
        check_student(self.student, pairs)
        # The student's own is found like all that is the student's, and registered once.
        del self._modules['data_preprocessor']
        self.teacher = FrozenTeacher(**teacher)
        self.teacher.goes_with(self)
        self._wiring = Wiring(pairs, self.teacher.model)
        self._input_is_checked = False
        self.input = find_student_input(self.student, data, student_input)
        self.teacher.prepare(self._wiring.teacher_paths(pairs), self.input)
        self.data_preprocessor.register_forward_pre_hook(ExtentRecorder())
        self._capture = FeatureCapture(
            self.student, self._wiring.student_paths(pairs), role='student'
        )
        self._inherited = inherited_modules(init_from_teacher, self.student, self.teacher.model)
        self.teacher.keep_weights(self._inherited.values())
        self._build_pairs(pairs, data)

        self.register_state_dict_post_hook(save_student)
        self.register_load_state_dict_pre_hook(load_student)
        self.register_load_state_dict_post_hook(end_of_loading)

    def forward(
        self, inputs: Tensor, data_samples: Optional[Sequence] = None, mode: str = 'tensor'
    ) -> Any:
        """Losses of student and pairs, or the student's own output.

        Args:
            inputs: Prepared images, (N, C, H, W).
            data_samples: The host's data samples.
            mode: ``'loss'`` distils; ``'predict'`` and ``'tensor'`` are the student's.

        Returns:
            For ``'loss'`` a flat dict of the student's losses, the pairs' losses and their
            diagnostics, see :class:`DistillPair`. Pairs that are not active add a loss of zero;
            the teacher runs as far as the active ones need it, without any not at all.
        """
        if mode != 'loss':
            return self.student(inputs, data_samples, mode=mode)
        if not isinstance(inputs, Tensor):
            raise ConfigError(
                f'{type(self.data_preprocessor).__name__} yields a {type(inputs).__name__} (of '
                f'views, of branches); choose a student that is trained on one tensor of images'
            )
        if self.training and not self._input_is_checked:
            self.teacher.converter.check(inputs)
            self._input_is_checked = True
        active = [name for name, pair in self.pairs.items() if pair.active]
        feeds = any(name in active for name in self._wiring.fed_names)
        if not feeds:
            # First, while no activations of the student are kept for its backward.
            teacher_features = self._teacher_features(active, {}, inputs, data_samples)
        with self._capture.subset(self._wiring.student_paths(active)) as ours:
            losses = dict(self.student(inputs, data_samples, mode='loss'))
        taught = [name for name in active if self._wiring.has_entries(name, ours)]
        if feeds:
            fed, pairs = self._wiring.fed_names, self.pairs
            taught = [n for n in active if pairs[n].takes_part(n in taught, varies=n in fed)]
            teacher_features = self._teacher_features(taught, ours, inputs, data_samples)
        for name, pair in self.pairs.items():
            if name in taught:
                maps = self._wiring.maps(name, ours, teacher_features, inputs)
                if self.training:
                    self._wiring.check_gradient(name, maps[0])
                entries = pair(*maps)
            else:
                entries = pair.idle(inputs, *ours.get(self._wiring.paths(name)[0], ()))
            for key in losses.keys() & entries.keys():
                raise ConfigError(
                    f'pairs.{name}: the student has a loss {key!r} of its own; give the pair '
                    f'another name'
                )
            losses.update(entries)
        return losses

    def parse_losses(self, losses: Dict[str, Any]) -> Tuple[Tensor, Dict[str, Tensor]]:
        """As in mmengine: the sum of all entries with "loss" in their name, and what is logged.

        mmpretrain calls a classifier's own loss ``loss``, as mmengine calls the sum. In the log it
        is ``loss_task``.
        """
        total, log = super().parse_losses(losses)
        if 'loss' in losses:
            log['loss_task'] = log['loss']
            log['loss'] = total
        return total, log

    def predict_with_teacher(self, data: Any) -> List:
        """The teacher's predictions for a batch of a data loader, fed as it is in training.

        Args:
            data: What the data loader yields, for the student's data preprocessor.

        Returns:
            The host's data samples.
        """
        return self.teacher.predict(**self.data_preprocessor(data, False))

    def paths(self, pair: str) -> Tuple[str, str]:
        """The module paths of student and teacher that a pair compares."""
        return self._wiring.paths(pair)

    def _teacher_features(
        self,
        names: Iterable[str],
        student_features: Features,
        inputs: Tensor,
        data_samples: Optional[Sequence],
    ) -> Features:
        """Pair to the teacher's features, on inputs of the student for the pairs that ask so."""
        features = {}
        for group in self._wiring.groups(names):
            fed = self._wiring.fed(group, student_features)
            paths = self._wiring.teacher_paths(group)
            by_path = self.teacher.features(inputs, data_samples, fed, paths)
            features.update((name, by_path[path]) for name, path in zip(group, paths))
        return features

    def _optimize_teacher(self, shape: ImageShape, student_features: Dict) -> None:
        """Make the teacher cheap; random images show that its features stay the same.

        Args:
            shape: Channels, height and width of an image that both models take.
            student_features: Of one such image.
        """
        names = self._wiring.names
        feeds = [self._wiring.fed(group, student_features) for group in self._wiring.groups(names)]
        fed = {path: values for feed in feeds for path, values in feed.items()}
        # Two images show what one hides: views that channels-last maps do not have. But what the
        # teacher is fed belongs to the one image, of that side.
        small = (shape[0], TRIAL_SIDE, TRIAL_SIDE)
        shapes, number = ((shape,), 1) if fed else ((small, shape), 2)

        def optimize(shape: ImageShape) -> None:
            images, samples = random_batch(shape, number)
            with blaming('teacher', images):
                self.teacher.optimize(
                    images,
                    samples,
                    fed,
                    lambda: self._teacher_features(names, student_features, images, samples),
                )

        first_accepted(shapes, optimize)

    def __getattr__(self, name: str) -> Any:
        # Hooks of the hosts reach into the runner's model: mmdet's YOLOXModeSwitchHook, for
        # example, sets `model.bbox_head.use_l1`.
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == 'student' or name.startswith('__'):
                raise
            return getattr(self.student, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # They also tell the model things, `model.epoch = runner.epoch`, which the student is to
        # hear. Weights and modules that neither has are those of a subclass.
        is_ours = 'pairs' not in self._modules or name in dir(self) or name.startswith('_')
        if (
            is_ours
            or isinstance(value, (nn.Module, nn.Parameter))
            and not hasattr(self.student, name)
        ):
            super().__setattr__(name, value)
        else:
            setattr(self.student, name, value)

    def init_weights(self) -> None:
        """Initialise the student as its config says, then copy what it inherits."""
        super().init_weights()
        inherit(self._inherited, self.student, self.teacher.kept_weights)

    def named_parameters(
        self, prefix: str = '', recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[Tuple[str, nn.Parameter]]:
        """As in ``nn.Module``; the student's under its own names, all others below ``distill.``.

        The hosts' optimizer constructors decide by names that begin with ``backbone.``.
        """
        if recurse:
            yield from self.student.named_parameters(prefix, True, remove_duplicate)
        for name, parameter in super().named_parameters('', recurse, remove_duplicate):
            if not name.startswith(STUDENT_PREFIX):
                yield prefix + ('.' if prefix else '') + checkpoint_name(name), parameter

    def get_layer_depth(self, param_name: str) -> Tuple[int, int]:
        """Depth of a parameter and number of layers, for mmpretrain's layer-wise decay.

        Heads of pairs count as what comes behind the student's backbone.

        Args:
            param_name: As made up from the names of submodules, ``student.backbone...``.
        """
        return self.student.get_layer_depth(checkpoint_name(param_name))

    def _build_pairs(self, pairs: Dict[str, Dict], data: Optional[Dict]) -> None:
        """Build the heads for the shapes seen in one forward of a blank image, and try them."""
        image, student_features, teacher_features = first_accepted(
            self.input.shapes, self._dry_forward
        )
        shape = tuple(image.shape[1:])
        ours = {name: student_features[self._wiring.paths(name)[0]] for name in pairs}
        self._wiring.find_layouts('student', self.student, shape, ours)
        self._wiring.find_layouts('teacher', self.teacher.model, shape, teacher_features)
        self._optimize_teacher(shape, student_features)
        # From now on it may be that a host runs no module where there is nothing to run it on.
        self._capture.may_yield_nothing = True
        self.pairs = nn.ModuleDict()
        classes = cache(lambda: classes_of_data(data))
        for name, cfg in pairs.items():
            calls = self._capture.calls[cfg['student']], self.teacher.capture.calls[cfg['teacher']]
            with blaming(f'pairs.{name}', image):
                maps = self._wiring.maps(name, student_features, teacher_features, image)
                self._wiring.check_levels(name, maps, shape[1], calls)
                pair = DistillPair.from_config(name, cfg, *maps)
                check_classes(name, cfg, pair.loss, maps, classes, self.teacher)
                with undisturbed(pair):
                    teaches = pair.teaches(*maps)
            if not teaches:
                print_log(
                    f'pairs.{name}: no gradient of its loss reaches the student, which learns '
                    f'nothing from this pair; is loss.loss_weight 0, or does the head or the loss '
                    f'detach the feature?',
                    'current',
                    logging.WARNING,
                )
            self.pairs[name] = pair
            shapes = [', '.join('x'.join(map(str, m.shape[1:])) for m in part) for part in maps]
            print_log(
                f'pairs.{name}: student {cfg["student"]} ({shapes[0]}) learns from teacher '
                f'{cfg["teacher"]} ({shapes[1]})',
                'current',
            )

    def _dry_forward(self, shape: ImageShape) -> Tuple[Tensor, Dict, Dict]:
        """A blank image, and both models' features of it."""
        image, samples = blank_batch(shape)
        with undisturbed(self.student):
            with blaming('student', image), self._capture as student_features:
                run_for_features(self.student, student_features, image, samples)
            with blaming('teacher', image):
                teacher_features = self._dry_teacher(student_features, image, samples)
        return image, student_features, teacher_features

    def _dry_teacher(
        self, student_features: Features, image: Tensor, samples: Sequence
    ) -> Features:
        """The teacher's features of a blank image; also finds out where it may stop."""
        self.teacher.capture.stop_after = {}
        fed, names = self._wiring.fed_names, self._wiring.names
        plain = [name for name in names if name not in fed]
        features = self._teacher_features(plain, {}, image, samples)
        counts = {self._wiring.paths(name)[1]: len(tensors) for name, tensors in features.items()}
        self.teacher.capture.stop_after = {**self._wiring.fed_counts(student_features), **counts}
        if fed:
            features = self._teacher_features(names, student_features, image, samples)
        return features

    def _apply(self, fn, *args, **kwargs) -> 'DiffKDDistiller':
        # The teacher is no submodule but goes to every device and precision with its distiller, and
        # stays there when a copy, such as an average on the CPU, goes elsewhere.
        if self.teacher.goes_with(self):
            self.teacher.apply_to_tensors(fn)
        return super()._apply(fn, *args, **kwargs)
