"""The distiller: what a config names and what the runner trains."""

from contextlib import contextmanager
from typing import Any, Dict, List, Optional, Sequence, Union

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmdiffkd.checkpoint import DISTILL_PREFIX
from mmdiffkd.registry import MODELS

from .build import ConfigError, build_model, check_keys, run_for_features
from .capture import FeatureCapture
from .pair import DistillPair
from .shapes import maps_of
from .teacher import FrozenTeacher

STUDENT_PREFIX = 'student.'

# Side in pixels of the blank image of the dry forward. Every stem and patch size of the host
# libraries divides it or copes with it.
_DRY_IMAGE_SIZE = 224


@MODELS.register_module()
class DiffKDDistiller(BaseModel):
    """Trains a student with its own losses and those of one or more distillation pairs.

    In ``mode='predict'`` and ``mode='tensor'`` it is the student. Its state dict holds the
    student's weights under the student's own names and everything else under ``distill.``, so
    that its checkpoints are student checkpoints.

    Args:
        student: Model dict, config path or ``library::name`` of the model to train.
        teacher: ``config`` and ``checkpoint``, and optionally ``ignore_keys`` and
            ``trust_checkpoint``; see :class:`FrozenTeacher`.
        pairs: Name to ``dict(student=path, teacher=path, head=..., loss=...)``. Paths are what
            :class:`FeatureCapture` takes; without ``head`` the raw features are compared.
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
        self._capture = FeatureCapture(
            self.student, [cfg['student'] for cfg in pairs.values()], role='student'
        )
        self._paths = {name: (cfg['student'], cfg['teacher']) for name, cfg in pairs.items()}
        self._build_pairs(pairs)
        self._inherited = _inherited_modules(init_from_teacher, self.student, self.teacher.model)

        self._register_state_dict_hook(_to_checkpoint_names)
        self._register_load_state_dict_pre_hook(_from_checkpoint_names)

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
        teacher_features = self.teacher.features(inputs, data_samples)
        with self._capture as student_features:
            losses = dict(self.student(inputs, data_samples, mode='loss'))
        for name, pair in self.pairs.items():
            student_path, teacher_path = self._paths[name]
            student_maps = self._maps(name, student_features[student_path], inputs)
            teacher_maps = self._maps(name, teacher_features[teacher_path], inputs)
            if self.training and torch.is_grad_enabled():
                _check_gradient(name, student_path, student_maps)
            losses.update(pair(student_maps, teacher_maps))
        return losses

    @staticmethod
    def _maps(name: str, features: Sequence[Tensor], inputs: Tensor) -> List[Tensor]:
        """The captured features as maps, one entry per image in each."""
        maps = maps_of(features, tuple(inputs.shape[-2:]))
        for feature in maps:
            if len(feature) != len(inputs):
                raise ValueError(
                    f'pairs.{name}: a feature has {len(feature)} entries for {len(inputs)} images. '
                    f'Modules that run on proposals or queries see other ones in student and '
                    f'teacher and cannot be matched'
                )
        return maps

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
        for student_name, teacher_name in self._inherited.items():
            weights = self.teacher.model.get_submodule(teacher_name).state_dict()
            self.student.get_submodule(student_name).load_state_dict(weights)
            print_log(
                f"student.{student_name}: {len(weights)} tensors copied from the teacher's "
                f'{teacher_name}',
                'current',
            )

    def _build_pairs(self, pairs: Dict[str, Dict]) -> None:
        """Build the heads for the shapes seen in one forward of a blank image, and try them."""
        image = torch.zeros(1, 3, _DRY_IMAGE_SIZE, _DRY_IMAGE_SIZE)
        samples = [_blank_sample()]
        with _undisturbed(self.student):
            with _blaming('teacher'):
                teacher_features = self.teacher.features(image, samples)
            with _blaming('student'), self._capture as student_features:
                run_for_features(self.student, student_features, image, samples)
        self.pairs = nn.ModuleDict()
        for name, cfg in pairs.items():
            with _blaming(f'pairs.{name}'):
                student_maps = self._maps(name, student_features[cfg['student']], image)
                teacher_maps = self._maps(name, teacher_features[cfg['teacher']], image)
                pair = DistillPair.from_config(name, cfg, student_maps, teacher_maps)
                with _undisturbed(pair):
                    pair(student_maps, teacher_maps)
            self.pairs[name] = pair

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


def _inherited_modules(
    names: Union[Sequence[str], Dict[str, str]], student: nn.Module, teacher: nn.Module
) -> Dict[str, str]:
    """Check ``init_from_teacher`` and return it as a dict from student to teacher names."""
    if isinstance(names, str):
        raise ConfigError(f'init_from_teacher must be a list or a dict, got {names!r}')
    pairs = dict(names) if isinstance(names, dict) else {name: name for name in names}
    for student_name, teacher_name in pairs.items():
        shapes: List[Dict] = []
        for role, model, name in (
            ('student', student, student_name),
            ('teacher', teacher, teacher_name),
        ):
            modules = dict(model.named_modules())
            if name not in modules:
                raise ConfigError(f'init_from_teacher: the {role} has no module {name!r}')
            shapes.append({k: tuple(v.shape) for k, v in modules[name].state_dict().items()})
        differing = sorted(
            key for key in {*shapes[0], *shapes[1]} if shapes[0].get(key) != shapes[1].get(key)
        )
        if differing:
            raise ConfigError(
                f'init_from_teacher: {student_name!r} of the student and {teacher_name!r} of the '
                f'teacher differ in {len(differing)} weights: {", ".join(differing[:5])}'
            )
    return pairs


@contextmanager
def _undisturbed(model: nn.Module):
    """Run a model once, and leave modes, buffers and random state as they were."""
    modes = [(module, module.training) for module in model.modules()]
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _blaming(where: str):
    """Say which part of the config it was that failed in the dry forward."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        # Whatever a model or a head raises when it is given what it cannot work with.
        raise ConfigError(
            f'{where}: the dry forward of a blank {_DRY_IMAGE_SIZE}x{_DRY_IMAGE_SIZE} image '
            f'failed: {error}'
        ) from error


def _check_gradient(name: str, path: str, maps: Sequence[Tensor]) -> None:
    if not any(feature.requires_grad for feature in maps):
        raise RuntimeError(
            f'pairs.{name}: no gradient flows into student path {path!r}, the student would learn '
            f'nothing from this pair. Is the module frozen (frozen_stages), or inside activation '
            f'checkpointing (with_cp)?'
        )


def _blank_sample() -> BaseDataElement:
    """A data sample with the meta information that host models read in a plain forward."""
    size = (_DRY_IMAGE_SIZE, _DRY_IMAGE_SIZE)
    return BaseDataElement(
        metainfo=dict(
            img_shape=size,
            ori_shape=size,
            pad_shape=size,
            batch_input_shape=size,
            scale_factor=(1.0, 1.0),
        )
    )


def _to_checkpoint_names(module: nn.Module, state_dict: Dict, prefix: str, _) -> None:
    """State-dict hook: ``student.x`` becomes ``x``, anything else of ours ``distill.x``."""
    for key in [key for key in state_dict if key.startswith(prefix)]:
        name = key[len(prefix) :]
        if name.startswith(STUDENT_PREFIX):
            name = name[len(STUDENT_PREFIX) :]
        else:
            name = DISTILL_PREFIX + name
        state_dict[prefix + name] = state_dict.pop(key)
    # Module versions, by which a plain student's load hooks recognise old layouts.
    versions = getattr(state_dict, '_metadata', {})
    student_prefix = prefix + STUDENT_PREFIX
    for key in [key for key in versions if (key + '.').startswith(student_prefix)]:
        name = prefix + key[len(student_prefix) :]
        versions[name.rstrip('.')] = versions[key]


def _from_checkpoint_names(state_dict: Dict, prefix: str, *_) -> None:
    """Load pre-hook, the inverse of :func:`_to_checkpoint_names`."""
    for key in [key for key in state_dict if key.startswith(prefix)]:
        name = key[len(prefix) :]
        if name.startswith(DISTILL_PREFIX):
            name = name[len(DISTILL_PREFIX) :]
        else:
            name = STUDENT_PREFIX + name
        state_dict[prefix + name] = state_dict.pop(key)
