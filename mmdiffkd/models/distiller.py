"""The distiller: what a config names and what the runner trains."""

from functools import cache, partial
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from mmengine.model import BaseModel, BaseModule
from torch import Tensor, nn

from mmdiffkd.capture import FeatureCapture
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.classes import classes_of_data
from mmdiffkd.models.fitting import check_student, fit_pairs
from mmdiffkd.models.hosts import build_model
from mmdiffkd.models.inheriting import inherit, inherited_modules
from mmdiffkd.models.input_matching import find_student_input
from mmdiffkd.models.naming import (
    STUDENT_PREFIX,
    checkpoint_name,
    end_of_loading,
    load_student,
    save_student,
)
from mmdiffkd.models.pair import DistillPair
from mmdiffkd.models.pair_config import check_pairs
from mmdiffkd.models.preprocessing import record_extents
from mmdiffkd.models.teacher import Teacher
from mmdiffkd.models.teacher_speed import Features
from mmdiffkd.models.teachers import AveragedTeacher, build_teachers, naming, split_path
from mmdiffkd.registry import MODELS


@MODELS.register_module()
class DiffKDDistiller(BaseModel):
    """Trains a student with its own losses and those of one or more distillation pairs.

    In ``mode='predict'`` and ``mode='tensor'`` it is the student. Its state dict holds the
    student's weights under the student's own names and everything else under ``distill.``, so
    that its checkpoints are student checkpoints.

    Args:
        student: Model dict, config path or ``library::name`` of the model to train.
        teacher: Arguments of :class:`FrozenTeacher`, ``config`` and ``checkpoint`` at least, or
            ``dict(average=...)`` with those of :class:`AveragedTeacher`, so that the student learns
            from its own moving average.
        pairs: Name -> ``dict(student=path, teacher=path, head=..., loss=...)``, with paths that
            :class:`FeatureCapture` takes. Without ``head`` the raw features are compared. A number
            ``weight`` multiplies the pair's distance, on top of the weight of its loss. A pair of
            modules that run on proposals or queries says with ``teacher_inputs=dict(student=path,
            teacher=path)``, or a list of such dicts, which inputs the teacher's modules get from
            the student's.
        teachers: Name -> a dict like ``teacher``, in place of it, for several of them. The paths of
            pairs in a teacher are then ``name:path``.
        init_from_teacher: Parts of the student that start from the teacher's weights: module
            names that both have, or a dict from student to teacher names (``name:module`` for one
            of several teachers).
        data_preprocessor: Config of the student's data preprocessor, used if ``student`` has none
            (configs of mmpretrain keep it beside the model).
        data: ``train_dataloader`` of the run, from which the distiller learns what the student's
            batches look like and what their classes are. ``mmdiffkd.DistillRunner`` fills it in.
        student_input: Format of the student's pictures, where neither its data preprocessor nor
            ``data`` tells it: ``dict(mean=[...], std=[...], rgb=True)`` with one number per channel
            of pixels from 0 to 255.

    Raises:
        ConfigError: If a key, a type or a path is wrong; the message names it.
        CheckpointError: If the teacher's checkpoint does not fit.
    """

    def __init__(
        self,
        student: Any,
        teacher: Optional[Dict] = None,
        pairs: Optional[Dict[str, Dict]] = None,
        teachers: Optional[Dict[str, Dict]] = None,
        init_from_teacher: Union[Sequence[str], Dict[str, str]] = (),
        data_preprocessor: Optional[Dict] = None,
        data: Optional[Dict] = None,
        student_input: Optional[Dict] = None,
    ) -> None:
        super().__init__()
        check_pairs(pairs)
        self.student = build_model(student, 'student', data_preprocessor)
        check_student(self.student)
        # The preprocessor is the student's, and must not be registered twice.
        del self.data_preprocessor
        self.teachers = build_teachers(teacher, teachers, self.student)
        # Averages are trained on with the student, and so they are saved.
        averaged = {k: it for k, it in self.teachers.items() if isinstance(it, AveragedTeacher)}
        self.averages = nn.ModuleDict({k or 'teacher': it.average for k, it in averaged.items()})
        parts = [self._build_pair(name, cfg) for name, cfg in pairs.items()]
        self.input = find_student_input(self.student, data, student_input)
        self.student.data_preprocessor.register_forward_pre_hook(record_extents)
        self._input_is_checked = False
        paths = [path for pair in parts for path in pair.student_paths]
        self._capture = FeatureCapture(self.student, paths, role='student')
        self._inherited = inherited_modules(init_from_teacher, self.student, self.teachers)
        classes = cache(partial(classes_of_data, data))
        for name, teacher in self.teachers.items():
            taught = [pair for pair in parts if pair.teacher_name == name]
            with naming(name):
                teacher.prepare(self, [pair.teacher_path for pair in taught], self.input)
                kept = [path for owner, path in self._inherited.values() if owner == name]
                teacher.keep_weights(kept)
                fit_pairs(taught, self._capture, teacher, self.input.shapes, classes)
        # During training a host may skip a captured module, such as a head on proposals when an
        # image has none. From here on this is no error.
        self._capture.may_yield_nothing = True
        self.pairs = nn.ModuleDict({pair.name: pair for pair in parts})

        self._is_built = True
        self.register_state_dict_post_hook(save_student)
        self.register_load_state_dict_pre_hook(load_student)
        self.register_load_state_dict_post_hook(end_of_loading)

    def _build_pair(self, name: str, cfg: Dict) -> DistillPair:
        teacher, path = split_path(cfg['teacher'], self.teachers, f'pairs.{name}.teacher')
        return DistillPair(name, {**cfg, 'teacher': path}, self.teachers[teacher].model, teacher)

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Losses of student and pairs, or the student's own output.

        Args:
            inputs: Prepared images, (N, C, H, W).
            data_samples: Data samples of the host.
            mode: ``'loss'`` distils; ``'predict'`` and ``'tensor'`` are the student's.

        Returns:
            For ``'loss'`` a flat dict of the student's losses, the pairs' losses and their
            diagnostics, see :class:`DistillPair`. Pairs that are not active add a loss of zero; a
            teacher runs as far as the active ones need it, without any not at all.
        """
        if mode != 'loss':
            return self.student(inputs, data_samples, mode=mode)
        self._check_inputs(inputs)
        if self.training:
            for average in self.averages.values():
                average.update_parameters(self.student)
        active = [pair for pair in self.pairs.values() if pair.active]
        with self._capture.subset(path for p in active for path in p.student_paths) as features:
            losses = dict(self.student(inputs, data_samples, mode='loss'))
        taught = [pair for pair in active if pair.takes_part(features)]
        targets: Features = {}
        for name, teacher in self.teachers.items():
            wanted = [pair for pair in taught if pair.teacher_name == name]
            targets.update(teacher.features(inputs, data_samples, wanted, features))
        for name, pair in self.pairs.items():
            if name in targets:
                entries = pair(features, targets[name], inputs, data_samples)
            else:
                entries = pair.idle(inputs, *features.get(pair.student_path, ()))
            for key in losses.keys() & entries.keys():
                raise ConfigError(
                    f'pairs.{name}: the student has a loss {key!r} of its own; give the pair '
                    f'another name'
                )
            losses.update(entries)
        return losses

    def _check_inputs(self, inputs: Any) -> None:
        """Raise unless the batch is one tensor of images, in the format that was found out."""
        if not isinstance(inputs, Tensor):
            raise ConfigError(
                f'{type(self.data_preprocessor).__name__} yields a {type(inputs).__name__} (of '
                f'views, of branches); choose a student that is trained on one tensor of images'
            )
        if self.training and not self._input_is_checked:
            for teacher in self.teachers.values():
                teacher.converter.check(inputs)
            self._input_is_checked = True

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

    @property
    def teacher(self) -> Teacher:
        """The teacher; the first of several."""
        return next(iter(self.teachers.values()))

    def predict_with_teacher(self, data: Any, name: str = '') -> List:
        """A teacher's predictions for a batch, computed as its features are in training.

        Args:
            data: Batch of a data loader, for the student's data preprocessor.
            name: Name of the teacher, if there are several.

        Returns:
            The host's data samples.
        """
        return self.teachers[name].predict(**self.data_preprocessor(data, False))

    def init_weights(self) -> None:
        """Initialise student, heads and losses as configured, then copy what is inherited."""
        super().init_weights()
        for pair in self.pairs.values():
            for part in (*pair.heads, pair.loss):
                if isinstance(part, BaseModule):
                    part.init_weights()
        inherit(self._inherited, self.student, self.teachers)

    def __getattr__(self, name: str) -> Any:
        # Hooks of the hosts reach into the runner's model: mmdet's YOLOXModeSwitchHook, for
        # example, sets `model.bbox_head.use_l1`.
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ('student', 'teachers') or name.startswith('__'):
                raise
            return getattr(self.student, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Hooks also set attributes of the model, such as `model.epoch = runner.epoch`, which are
        # meant for the student. Modules and parameters that the student lacks are a subclass's.
        is_ours = '_is_built' not in vars(self) or name in dir(self) or name.startswith('_')
        is_part = isinstance(value, (nn.Module, nn.Parameter))
        if is_ours or (is_part and not hasattr(self.student, name)):
            super().__setattr__(name, value)
        else:
            setattr(self.student, name, value)

    def named_parameters(
        self, prefix: str = '', recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[Tuple[str, nn.Parameter]]:
        """As in ``nn.Module``; the student's under its own names, all others below ``distill.``.

        The hosts' optimizer constructors decide by names that begin with ``backbone.``. Averages of
        the student are left out, because nothing trains them.
        """
        if recurse:
            yield from self.student.named_parameters(prefix, True, remove_duplicate)
        for name, parameter in super().named_parameters('', recurse, remove_duplicate):
            if not name.startswith((STUDENT_PREFIX, 'averages.')):
                yield prefix + ('.' if prefix else '') + checkpoint_name(name), parameter

    def get_layer_depth(self, param_name: str) -> Tuple[int, int]:
        """Depth of a parameter and number of layers, for mmpretrain's layer-wise decay.

        Heads of pairs count as what comes behind the student's backbone.

        Args:
            param_name: Name made up of the names of submodules, ``student.backbone...``.
        """
        return self.student.get_layer_depth(checkpoint_name(param_name))

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> 'DiffKDDistiller':
        # The one method through which all of `to`, `cuda`, `half` and the like go.
        for teacher in self.teachers.values():
            teacher.move_with(self, fn)
        return super()._apply(fn, *args, **kwargs)
