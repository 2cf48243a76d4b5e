"""Configs of models: reading them from dicts, files and libraries, and removing weights from them.

A config is a model dict, the path of a config file, or a name such as
``'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'``.
"""

import copy
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from mmengine.config import Config
from mmengine.hub import get_config

from mmdiffkd.compat import is_installed
from mmdiffkd.errors import ConfigError, describe

# Parts of the names of keys whose value is a file of weights.
_WEIGHT_WORDS = ('pretrained', 'checkpoint', 'ckpt')


def load_config(location: Any, where: str, with_weights: bool = False) -> Config:
    """The full config at a path or of a ``library::name``.

    Args:
        location: The path or the name.
        where: The config key that holds it, for errors.
        with_weights: Whether to set ``cfg.model_path`` to the library's published weights.

    Raises:
        ConfigError: If the config cannot be read; the error behind it is the cause.
    """
    if not isinstance(location, (str, Path)):
        raise ConfigError(
            f'{where} must be a model dict, a path or a name like '
            f"'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', got {location!r}"
        )
    library, is_name, _ = str(location).partition('::')
    path = Path(location).expanduser()
    if is_name and not (library.isidentifier() and is_installed(library)):
        # MMEngine would try to install the library.
        raise ConfigError(f'{where}: {location!r} needs {library}, which is not installed')
    if not is_name and not path.is_file():
        raise ConfigError(
            f'{where}: no file {str(location)!r} (looked from {Path.cwd()}); accepted are a path '
            f"and a name like 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'"
        )
    try:
        if is_name:
            return get_config(str(location), pretrained=with_weights)
        return Config.fromfile(path)
    except (Exception, SystemExit) as error:
        # A config file is code, which can fail in any way.
        raise ConfigError(
            f'{where}: {str(location)!r} cannot be read: {describe(error)}'
        ) from error


def model_config(config: Any, where: str) -> Dict:
    """A copy of the model dict of a config, with its registry scope as ``_scope_`` if it has one.

    Args:
        config: A model dict, a path or a ``library::name``.
        where: The config key that holds it, for errors. A dict at ``'student'`` is the model of
            the run itself and keeps the run's scope.
    """
    if isinstance(config, dict):
        if 'type' not in config:
            raise ConfigError(f"{where}: a model dict needs a 'type', got the keys {list(config)}")
        model = copy.deepcopy(dict(config))
        scope = None if where == 'student' else _scope_of_type(model['type'])
    else:
        cfg = load_config(config, where)
        if 'model' not in cfg:
            raise ConfigError(f"{where}: {config!r} has no 'model'")
        model = copy.deepcopy(dict(cfg.model))
        # Configs of MMPretrain have the data preprocessor beside the model.
        if cfg.get('data_preprocessor') is not None:
            model.setdefault('data_preprocessor', cfg.data_preprocessor)
        scope = scope_of(cfg, config)
    if scope:
        model.setdefault('_scope_', scope)
    return model


def scope_of(cfg: Config, location: Any) -> Optional[str]:
    """The registry scope of a config: its ``default_scope``, else the library of its model.

    Args:
        cfg: The config.
        location: Path or ``library::name`` of the config.
    """
    kind = (cfg.get('model') or {}).get('type')
    library = str(location).rpartition('::')[0]
    return cfg.get('default_scope') or (kind and _scope_of_type(kind)) or library or None


def _scope_of_type(kind: Any) -> Optional[str]:
    """The library of a type such as ``'mmdet.RetinaNet'`` or a class; None if it has none."""
    library, dot, _ = (kind if isinstance(kind, str) else f'{kind.__module__}.').partition('.')
    return library if dot and is_installed(f'{library}.registry') else None


def dicts_in(value: Any) -> Iterator[Dict]:
    """All dicts inside nested dicts and lists, the outermost included."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from dicts_in(item)


def forget_weights(model: Dict) -> None:
    """Remove all references to pretrained weights from a model dict, in place.

    These are ``init_cfg`` entries with a ``checkpoint`` or of a type ``Pretrained``, and values of
    keys such as MMSegmentation's ``pretrained``, MMDetection's ``teacher_ckpt`` and timm's
    ``checkpoint_path``.
    """
    for part in dicts_in(model):
        inits = part.get('init_cfg')
        if any(map(_loads_weights, dicts_in(inits))):
            listed = inits if isinstance(inits, (list, tuple)) else ()
            part['init_cfg'] = [init for init in listed if not _loads_weights(init)] or None
        for key, value in part.items():
            if isinstance(value, str) and value and any(word in str(key) for word in _WEIGHT_WORDS):
                part[key] = None
        if part.get('pretrained') is True:
            part['pretrained'] = False


def _loads_weights(init: Dict) -> bool:
    return 'checkpoint' in init or 'Pretrained' in str(init.get('type'))


def has_pretrained_weights(model: Dict) -> bool:
    """Whether a model dict has anything that :func:`forget_weights` would remove."""
    without = copy.deepcopy(model)
    forget_weights(without)
    return without != model


def untrained_config(config: Any, where: str) -> Dict:
    """:func:`model_config` without references to pretrained weights."""
    model = model_config(config, where)
    forget_weights(model)
    return model


def student_config(model: Dict) -> Dict:
    """The student's model dict out of a distiller's; a model without ``student`` is returned.

    Args:
        model: ``model`` of a run's config.
    """
    if 'student' not in model:
        return model
    student = model_config(model['student'], 'student')
    if model.get('data_preprocessor') is not None:
        student.setdefault('data_preprocessor', model['data_preprocessor'])
    return student_config(student)
