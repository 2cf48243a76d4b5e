"""The distiller: what a config names and what the runner trains."""

from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmdiffkd.registry import MODELS

from .build import ConfigError, build_model, check_keys, run_for_features
from .capture import FeatureCapture, FeaturePath
from .dry_run import (
    IMAGE_SIDES,
    TRIAL_SIDE,
    blaming,
    blaming_size,
    blank_batch,
    first_accepted,
    random_batch,
    undisturbed,
)
from .inherit import inherit, inherited_modules
from .naming import checkpoint_name, from_checkpoint_names, to_checkpoint_names
from .pair import DistillPair
from .shapes import maps_of
from .teacher import FrozenTeacher
from .teacher_inputs import input_replacements


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
            student's; it holds for the teacher's whole forward.
        init_from_teacher: Parts of the student that start from the teacher's weights: module
            names that both have, or a dict from student to teacher names.
        data_preprocessor: Used if ``student`` names none (mmpretrain's configs keep it beside
            the model).

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
    ) -> None:
        super().__init__()
        _check_pairs(pairs)
        check_keys(teacher, FrozenTeacher.KEYS, ('config', 'checkpoint'), 'teacher')
        self.student = build_model(student, 'student', data_preprocessor)
        # Registered once, as a part of the student; see the property below.
        del self._modules['data_preprocessor']
        self.teacher = FrozenTeacher(**teacher)
        self.teacher.prepare([cfg['teacher'] for cfg in pairs.values()], self.data_preprocessor)
        self._paths = {name: (cfg['student'], cfg['teacher']) for name, cfg in pairs.items()}
        self._fed_pairs = {name for name, cfg in pairs.items() if cfg.get('teacher_inputs')}
        self._replacements = input_replacements(pairs, self.teacher.model)
        self._capture = FeatureCapture(
            self.student,
            [*(student for student, _ in self._paths.values()), *self._replacements.values()],
            role='student',
        )
        self._inherited = inherited_modules(init_from_teacher, self.student, self.teacher.model)
        self.teacher.keep_weights(self._inherited.values())
        self._build_pairs(pairs)

        self._register_state_dict_hook(to_checkpoint_names)
        self._register_load_state_dict_pre_hook(from_checkpoint_names)

    @property
    def data_preprocessor(self) -> nn.Module:
        """The student's own."""
        return self.student.data_preprocessor

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
            diagnostics, see :class:`DistillPair`.
        """
        if mode != 'loss':
            return self.student(inputs, data_samples, mode=mode)
        if not self._replacements:
            # First, while no activations of the student are kept for its backward.
            with blaming_size('teacher', inputs):
                teacher_features = self.teacher.features(inputs, data_samples)
        with self._capture as student_features:
            losses = dict(self.student(inputs, data_samples, mode='loss'))
        if self._replacements:
            teacher_features = self._feed_teacher(student_features, inputs, data_samples)
        for name, pair in self.pairs.items():
            student_maps, teacher_maps = self._maps(
                name, student_features, teacher_features, inputs
            )
            if self.training and torch.is_grad_enabled():
                _check_gradient(name, self._paths[name][0], student_maps)
            losses.update(pair(student_maps, teacher_maps))
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

    def _feed_teacher(
        self, student_features: Dict, inputs: Tensor, data_samples: Optional[Sequence]
    ) -> Dict[str, List[Tensor]]:
        """The teacher's features with the student's inputs where pairs ask for it."""
        return self.teacher.features(inputs, data_samples, self._fed(student_features))

    def _fed(self, student_features: Dict) -> Dict[FeaturePath, List[Tensor]]:
        """What the teacher's modules get of the student's inputs."""
        return {path: student_features[text] for path, text in self._replacements.items()}

    def _optimize_teacher(self, side: int, student_features: Dict) -> None:
        """Make the teacher cheap; random images show that its features stay the same.

        Args:
            side: Of an image that both models take.
            student_features: Of one such image.
        """
        # Two images show what one hides: views that channels-last maps do not have. But what the
        # teacher is fed belongs to the one image, of that side.
        sides, number = ((side,), 1) if self._replacements else ((TRIAL_SIDE, side), 2)

        def optimize(side: int) -> None:
            images, samples = random_batch(side, number)
            with blaming('teacher', images):
                self.teacher.optimize(images, samples, self._fed(student_features))

        first_accepted(sides, optimize)

    def _maps(
        self, name: str, student_features: Dict, teacher_features: Dict, inputs: Tensor
    ) -> Tuple[List[Tensor], List[Tensor]]:
        """A pair's captured features of student and teacher as maps, checked to correspond."""
        student_path, teacher_path = self._paths[name]
        image_size = tuple(inputs.shape[-2:])
        student_maps = maps_of(student_features[student_path], image_size)
        teacher_maps = maps_of(teacher_features[teacher_path], image_size)
        for feature in (*student_maps, *teacher_maps):
            if name in self._fed_pairs:
                if len(feature) != len(teacher_maps[0]):
                    raise ValueError(
                        f'pairs.{name}: features of {len(feature)} and {len(teacher_maps[0])} '
                        f"entries; teacher_inputs must make the teacher's module run on what the "
                        f"student's runs on"
                    )
            elif len(feature) != len(inputs):
                raise ValueError(
                    f'pairs.{name}: a feature has {len(feature)} entries for {len(inputs)} images. '
                    f'Modules that run on proposals or queries see other ones in student and '
                    f"teacher; say with teacher_inputs which inputs the teacher's get from the "
                    f"student's"
                )
        return student_maps, teacher_maps

    def __getattr__(self, name: str) -> Any:
        # Hooks of the hosts reach into the runner's model: mmdet's YOLOXModeSwitchHook, for
        # example, sets `model.bbox_head.use_l1`.
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == 'student' or name.startswith('__'):
                raise
            return getattr(self.student, name)

    def init_weights(self) -> None:
        """Initialise the student as its config says, then copy what it inherits."""
        super().init_weights()
        inherit(self._inherited, self.student, self.teacher.kept_weights)

    def named_parameters(
        self, prefix: str = '', recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[Tuple[str, nn.Parameter]]:
        """As in ``nn.Module``, under the names of the state dict.

        The hosts' optimizer constructors decide by names that begin with ``backbone.``.
        """
        for name, parameter in super().named_parameters('', recurse, remove_duplicate):
            yield prefix + ('.' if prefix else '') + checkpoint_name(name), parameter

    def get_layer_depth(self, param_name: str) -> Tuple[int, int]:
        """Depth of a parameter and number of layers, for mmpretrain's layer-wise decay.

        Heads of pairs count as what comes behind the student's backbone.

        Args:
            param_name: As made up from the names of submodules, ``student.backbone...``.
        """
        return self.student.get_layer_depth(checkpoint_name(param_name))

    def _build_pairs(self, pairs: Dict[str, Dict]) -> None:
        """Build the heads for the shapes seen in one forward of a blank image, and try them."""
        image, student_features, teacher_features = first_accepted(IMAGE_SIDES, self._dry_forward)
        self._optimize_teacher(image.shape[-1], student_features)
        self.pairs = nn.ModuleDict()
        for name, cfg in pairs.items():
            with blaming(f'pairs.{name}', image):
                maps = self._maps(name, student_features, teacher_features, image)
                pair = DistillPair.from_config(name, cfg, *maps)
                with undisturbed(pair):
                    pair(*maps)
            self.pairs[name] = pair
            shapes = [', '.join('x'.join(map(str, m.shape[1:])) for m in part) for part in maps]
            print_log(
                f'pairs.{name}: student {cfg["student"]} ({shapes[0]}) learns from teacher '
                f'{cfg["teacher"]} ({shapes[1]})',
                'current',
            )

    def _dry_forward(self, side: int) -> Tuple[Tensor, Dict, Dict]:
        """A blank image, and both models' features of it."""
        image, samples = blank_batch(side)
        with undisturbed(self.student):
            with blaming('student', image), self._capture as student_features:
                run_for_features(self.student, student_features, image, samples)
            with blaming('teacher', image):
                teacher_features = self._dry_teacher(student_features, image, samples)
        return image, student_features, teacher_features

    def _dry_teacher(
        self, student_features: Dict, image: Tensor, samples: Sequence
    ) -> Dict[str, List[Tensor]]:
        """The teacher's features of a blank image; also finds out where it may stop."""
        self.teacher.capture.stop_after = {}
        plain = [path for name, (_, path) in self._paths.items() if name not in self._fed_pairs]
        features = self.teacher.features(image, samples, paths=plain) if plain else {}
        counts = {path: len(tensors) for path, tensors in features.items()}
        for name in self._fed_pairs:
            student_path, teacher_path = self._paths[name]
            # Behind replaced inputs hosts may fail, having lost track of whose proposals these are.
            counts.setdefault(teacher_path, len(student_features[student_path]))
        self.teacher.capture.stop_after = counts
        if self._replacements:
            features = self._feed_teacher(student_features, image, samples)
        return features

    def _apply(self, fn, *args, **kwargs) -> 'DiffKDDistiller':
        # The teacher is no submodule but goes to every device and precision with the distiller.
        self.teacher.apply_to_tensors(fn)
        return super()._apply(fn, *args, **kwargs)


def _check_pairs(pairs: Any) -> None:
    if not isinstance(pairs, dict) or not pairs:
        raise ConfigError(f'pairs must be a dict with at least one pair, got {pairs!r}')
    for name, cfg in pairs.items():
        # mmengine adds up every logged key that contains "loss", diagnostics included.
        if not str(name).isidentifier() or 'loss' in name:
            raise ConfigError(
                f'pairs: {name!r} must be an identifier without "loss" in it, because it becomes '
                f'part of the names in the log'
            )
        if hasattr(nn.ModuleDict(), name):
            raise ConfigError(f'pairs: {name!r} cannot name a pair, torch uses it itself')
        check_keys(cfg, DistillPair.KEYS, ('student', 'teacher', 'loss'), f'pairs.{name}')


def _check_gradient(name: str, path: str, maps: Sequence[Tensor]) -> None:
    if not any(feature.requires_grad for feature in maps):
        raise RuntimeError(
            f'pairs.{name}: no gradient flows into student path {path!r}, the student would learn '
            f'nothing from this pair. Is the module frozen (frozen_stages), or inside activation '
            f'checkpointing (with_cp)?'
        )
