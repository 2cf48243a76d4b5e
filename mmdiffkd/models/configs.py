"""Configs of models, each a model dict, the path of a file or a ``library::name``."""

import copy
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.hub import get_config

from mmdiffkd.compat import installed_config, is_installed
from mmdiffkd.errors import ConfigError, describe, shortened, suggest


def load_config(location: Any, where: str, with_weights: bool = False) -> Config:
    """The full config at a path or of a ``library::name``.

    A :class:`ConfigError` with the config key ``where`` is raised if it cannot be read.
    ``with_weights`` sets ``cfg.model_path`` to the weights that the library publishes for it.
    """
    if not isinstance(location, (str, Path)):
        got = shortened(repr(location), 100)
        raise ConfigError(
            f'{where} must be a model dict, a path or a name, got {got}; a class of your own is '
            f'named as dict(type=YourClass, ...)'
        )
    library, is_name, name = str(location).partition('::')
    # MMEngine would try to install the library.
    if is_name and not (library.isidentifier() and is_installed(library)):
        hint = suggest(library, filter(is_installed, MODULE2PACKAGE))
        raise ConfigError(f'{where}: {location!r} needs {library}, which is not installed{hint}')
    if not is_name and not Path(location).expanduser().is_file():
        raise ConfigError(
            f'{where}: no file {str(location)!r} (looked from {Path.cwd()}); accepted are a path '
            f"and a name like 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'"
        )
    try:
        if with_weights:
            return get_config(str(location), pretrained=True)
        path = installed_config(location) if is_name else Path(location).expanduser()
        cfg = Config.fromfile(path)
    except (Exception, SystemExit) as error:
        # A config file is code, which can fail in any way.
        problem = f'{str(location)!r} cannot be read: {describe(error)}'
        if is_name and name not in (names := _configs_of(library)):
            problem = f'{library} has no config {name!r}{suggest(name, names)}'
        raise ConfigError(f'{where}: {problem}') from error
    _find_beside(cfg.get('model'), path.parent)
    return cfg


def _find_beside(model: Any, folder: Path) -> None:
    """Make paths in a distiller's config absolute that are those of files in the config's folder.

    All others stay as they are, for a file of the current folder.
    """
    teachers = [*teachers_in(model).values()]
    parts = [(teacher, key) for teacher in teachers for key in ('config', 'checkpoint')]
    for part, key in [(model, 'student'), *parts] if teachers else ():
        if isinstance(part.get(key), str) and Path(folder, part[key]).is_file():
            part[key] = str(Path(folder, part[key]).resolve())


def teachers_in(model: Any) -> Dict[str, Dict]:
    """The teachers' dicts in a distiller's config, by their config keys.

    These are ``teacher``, or ``teachers.<name>`` for each of several.
    """
    model = model if isinstance(model, dict) else {}
    several = model.get('teachers') or {}
    found = {f'teachers.{name}': cfg for name, cfg in several.items()}
    found = found or dict(teacher=model.get('teacher'))
    return {key: cfg for key, cfg in found.items() if isinstance(cfg, dict)}


def _configs_of(library: str) -> List[str]:
    """Names of the configs that are installed with a library."""
    folder = installed_config(f'{library}::')
    return [path.relative_to(folder).as_posix() for path in folder.rglob('*.py')]


def model_config(config: Any, where: str) -> Dict:
    """A copy of a config's model dict, whose registry scope, if it has one, is at ``_scope_``.

    ``where`` is the config key of the config; a dict at ``'student'`` keeps the scope of the run.
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
    return {**dict(_scope_=scope), **model} if scope else model


def scope_of(cfg: Config, location: Any) -> Optional[str]:
    """The registry scope of the config at ``location``, a path or a ``library::name``.

    It is the config's ``default_scope``, or else the library of its model or of its name.
    """
    library = str(location).rpartition('::')[0]
    kind = (cfg.get('model') or {}).get('type', '')
    return cfg.get('default_scope') or _scope_of_type(kind) or library or None


def _scope_of_type(kind: Any) -> Optional[str]:
    """The library of a type such as ``'mmdet.RetinaNet'`` or a class; None if it has none."""
    library, dot, _ = (kind if isinstance(kind, str) else f'{kind.__module__}.').partition('.')
    spec = find_spec(library) if dot and is_installed(library) else None
    folders = spec.submodule_search_locations if spec else None
    return library if any(Path(x, 'registry.py').is_file() for x in folders or ()) else None


def dicts_in(value: Any) -> Iterator[Dict]:
    """All dicts inside nested dicts and lists, the outermost included."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from dicts_in(item)


def datasets_in(dataset: Any, where: str) -> Iterator[Tuple[str, Any]]:
    """The data sets inside wrappers such as ``ConcatDataset``, with their config keys.

    ``dataset`` is built or a config dict, ``where`` its config key.
    """
    several, one = (
        dataset.get(name) if isinstance(dataset, dict) else getattr(dataset, name, None)
        for name in ('datasets', 'dataset')
    )
    for number, part in enumerate(several or ()):
        yield from datasets_in(part, f'{where}.datasets[{number}]')
    if not several and one is not None:
        yield from datasets_in(one, f'{where}.dataset')
    elif not several:
        yield where, dataset


def type_name(part: Any) -> str:
    """The name of the class, without its library, of an object or a dict with a ``type``."""
    kind = part.get('type') if isinstance(part, dict) else type(part)
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def add_hook(cfg: Config, kind: str, **settings: Any) -> None:
    """Add a hook to ``custom_hooks`` of a config, unless there is one of this type."""
    hooks = list(cfg.get('custom_hooks') or ())
    if not any(type_name(hook) == kind.rpartition('.')[2] for hook in hooks):
        cfg.custom_hooks = [*hooks, dict(type=kind, **settings)]


def forget_weights(model: Dict) -> Dict:
    """Remove all references to pretrained weights from a model dict, in place, and return it."""

    def loads(init: Dict) -> bool:
        return 'checkpoint' in init or 'Pretrained' in str(init.get('type'))

    for part in dicts_in(model):
        inits = part.get('init_cfg')
        if any(map(loads, dicts_in(inits))):
            listed = inits if isinstance(inits, (list, tuple)) else ()
            part['init_cfg'] = [init for init in listed if not loads(init)] or None
        names = [key for key, value in part.items() if value and isinstance(value, str)]
        weights = [key for key in names if re.search('pretrained|checkpoint|ckpt', str(key))]
        part.update(dict.fromkeys(weights))
        if part.get('pretrained') is True:
            part['pretrained'] = False
    return model


def has_pretrained_weights(model: Dict) -> bool:
    """Whether a model dict has anything that :func:`forget_weights` would remove."""
    return forget_weights(copy.deepcopy(model)) != model


def untrained_config(config: Any, where: str) -> Dict:
    """:func:`model_config` without references to pretrained weights."""
    return forget_weights(model_config(config, where))


def student_config(model: Dict) -> Dict:
    """The student's model dict in ``model`` of a run; a ``model`` without student is returned."""
    if 'student' not in model:
        return model
    student = model_config(model['student'], 'student')
    if model.get('data_preprocessor') is not None:
        student.setdefault('data_preprocessor', model['data_preprocessor'])
    return student
