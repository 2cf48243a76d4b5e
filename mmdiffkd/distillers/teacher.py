"""The teacher: loaded strictly, never trained, never saved, run no further than needed."""

import logging
import re
from contextlib import ExitStack
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmdiffkd.checkpoint import CheckpointError, fetch, load_file, load_strictly, weights_of

from .build import ConfigError, build_model, load_config, run_for_features
from .capture import FeatureCapture, FeaturePath, replaced_input
from .preprocessing import InputConverter, InputFormat


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
            :func:`mmdiffkd.checkpoint.load_file`.

    Raises:
        ConfigError: If no checkpoint is given or the config cannot be built.
        CheckpointError: If the checkpoint cannot be read or does not fit.
    """

    KEYS = ('config', 'checkpoint', 'ignore_keys', 'trust_checkpoint')

    def __init__(
        self,
        config: Any,
        checkpoint: str,
        ignore_keys: Sequence[str] = (),
        trust_checkpoint: bool = False,
    ) -> None:
        _check_patterns(ignore_keys)
        self.model = build_model(config, 'teacher.config')
        if checkpoint == 'random':
            print_log(
                'The teacher has random weights (teacher.checkpoint="random"): good for a smoke '
                'run, nothing can be learned from it.',
                'current',
                logging.WARNING,
            )
        else:
            load_teacher_weights(self.model, config, checkpoint, ignore_keys, trust_checkpoint)
        self.model.requires_grad_(False)
        self.model.eval()
        self.converter: Optional[InputConverter] = None
        self.capture: Optional[FeatureCapture] = None

    def prepare(self, paths: Iterable[str], student_preprocessor: nn.Module) -> None:
        """Say what to capture and how the inputs of :meth:`features` were prepared.

        Args:
            paths: Module paths of the teacher.
            student_preprocessor: The data preprocessor that prepares the inputs.
        """
        self.capture = FeatureCapture(self.model, paths, role='teacher')
        self.converter = InputConverter(
            InputFormat.of(student_preprocessor), InputFormat.of(self.model.data_preprocessor)
        )

    @torch.no_grad()
    def features(
        self,
        inputs: Tensor,
        data_samples: Optional[Sequence] = None,
        replacements: Optional[Mapping[FeaturePath, Sequence[Tensor]]] = None,
        paths: Optional[Iterable[str]] = None,
    ) -> Dict[str, List[Tensor]]:
        """Run the teacher on the student's batch.

        Args:
            inputs: Images prepared for the student, (N, C, H, W).
            data_samples: The student's data samples.
            replacements: Per input path of the teacher, what its module gets instead, one tensor
                per call.
            paths: What to capture, if not what :meth:`prepare` said.

        Returns:
            Per path the captured tensors, without gradient.
        """
        inputs = self.converter(inputs, data_samples)
        capture = self.capture
        if paths is not None:
            capture = FeatureCapture(self.model, paths, role='teacher')
        # The capture is outermost: it receives what ends the forward early.
        with capture as features, ExitStack() as fed:
            for path, values in (replacements or {}).items():
                fed.enter_context(replaced_input(self.model, path, values, role='teacher'))
            run_for_features(self.model, features, inputs, data_samples)
        return features

    def apply_to_tensors(self, function) -> None:
        """Apply what moves or casts a module, as ``nn.Module._apply`` does."""
        self.model._apply(function)
        if self.converter is not None:
            self.converter._apply(function)

    def __deepcopy__(self, memo) -> 'FrozenTeacher':
        return self


def load_teacher_weights(
    model: nn.Module,
    config: Any,
    checkpoint: str,
    ignore_keys: Sequence[str] = (),
    trust_checkpoint: bool = False,
) -> None:
    """Load a teacher's checkpoint, strictly.

    Args:
        model: Built from ``config``.
        config: As given in the distiller's config; ``'zoo'`` looks the weight up by it.
        checkpoint: A path, a URL or ``'zoo'``.
        ignore_keys: Regular expressions for keys that may not fit.
        trust_checkpoint: Unpickle whatever the file contains.
    """
    location = _published_weight(config) if checkpoint == 'zoo' else checkpoint
    if not isinstance(location, str):
        raise ConfigError(
            f'teacher.checkpoint must be a path, a URL, "zoo" or "random", got {location!r}'
        )
    try:
        weights = weights_of(load_file(fetch(location), trust_checkpoint))
        load_strictly(model, weights, f'checkpoint {location!r}', ignore_keys)
    except CheckpointError as error:
        raise CheckpointError(f'teacher.{error}') from error
    print_log(f'Teacher {type(model).__name__} loaded from {location}', 'current')


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
