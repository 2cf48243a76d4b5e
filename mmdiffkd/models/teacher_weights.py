"""Loading the weights of a teacher."""

import logging
import re
from typing import Any, Dict, Sequence

from mmengine.logging import print_log
from torch import Tensor, nn

from mmdiffkd.checkpoints.download import fetch
from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.checkpoints.weights import fitting_prefixes, load_strictly, tensors_in, weights_of
from mmdiffkd.errors import CheckpointError, ConfigError
from mmdiffkd.messages import tell
from mmdiffkd.models.classes import Classes, classes_of_file
from mmdiffkd.models.configs import load_config, untrained_config
from mmdiffkd.models.feature_extractor import FeatureExtractor
from mmdiffkd.models.hosts import build_model


def random_teacher(config: Any) -> nn.Module:
    """A teacher with random weights, with a warning.

    Args:
        config: Value of ``teacher.config``.
    """
    print_log(
        'The teacher has random weights (teacher.checkpoint="random"): good for a smoke run, '
        'nothing can be learned from it.',
        'current',
        logging.WARNING,
    )
    model = build_model(untrained_config(config, 'teacher.config'), 'teacher.config')
    # Modules of torch have no such method and are initialised when they are built.
    if hasattr(model, 'init_weights'):
        model.init_weights()
    return model


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
        model: Model built from ``config``.
        config: Value of ``teacher.config``, by which ``'zoo'`` looks the weights up.
        checkpoint: Path, URL or ``'zoo'``.
        ignore_keys: Regular expressions for keys that may not fit.
        trust_checkpoint: Whether the file may hold objects other than weights.
        prefix: Beginning of the names of the weights to load.

    Returns:
        The names of the classes in the file; None for published weights, whose classes are those of
        their config, whatever older versions called them.
    """
    if checkpoint == 'zoo' and isinstance(model, FeatureExtractor):
        model.load_published()
        tell(f'Teacher {model.name} has the weights that {model.library} loads for it')
        return None
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
    tell(f'Teacher {type(model).__name__} loaded from {location}')
    return None if checkpoint == 'zoo' else classes_of_file(file)


def _of_backbone(model: nn.Module, weights: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """A backbone's weights under the names of a model that has no others."""
    start = 'backbone.'
    alone = all(name.startswith(start) for name in model.state_dict())
    if not alone or any(name.startswith(start) for name in weights):
        return weights
    return {f'{start}{name}': value for name, value in weights.items()}


def check_patterns(ignore_keys: Any) -> None:
    """Raise :class:`ConfigError` unless ``ignore_keys`` is a list of regular expressions."""
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
