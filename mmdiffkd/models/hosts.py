"""Where configs become models: the only place that knows what the host libraries need.

Every function raises errors that name the config key, what was given and what is accepted.
"""

import copy
import inspect
import re
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    Optional,
    Sequence,
    get_args,
    get_type_hints,
)
from urllib.parse import unquote

from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmdiffkd.capture import FeaturePath
from mmdiffkd.compat import is_installed
from mmdiffkd.errors import CheckpointError, ConfigError, describe, shortened, suggest
from mmdiffkd.registry import MODELS

_PACKAGE = __name__.partition('.')[0]
_TYPE_NAMES = {
    int: 'an integer',
    float: 'a number',
    bool: 'True or False',
    str: 'a text',
    type(None): 'None',
}
_HOSTS = ('mmdet', 'mmseg', 'mmpretrain')
# What keys are called that name weights.
_WEIGHT_WORDS = ('pretrained', 'checkpoint', 'ckpt')
# Modules that every host's `extract_feat` runs.
_FEATURE_MODULES = ('backbone', 'neck')


def check_keys(cfg: Any, accepted: Iterable[str], required: Iterable[str], where: str) -> None:
    """Raise unless ``cfg`` is a dict with all required and no unknown keys."""
    accepted = list(accepted)
    if not isinstance(cfg, dict):
        raise ConfigError(
            f'{where} must be a dict with the keys {", ".join(accepted)}; got {_shown(cfg)}'
        )
    for key in cfg:
        if key not in accepted:
            raise ConfigError(
                f'{where}: unknown key {key!r}{suggest(key, accepted)} '
                f'(accepted: {", ".join(accepted)})'
            )
    for key in required:
        if cfg.get(key) is None:
            raise ConfigError(f'{where}: {key!r} is required')


def check_types(cfg: Dict, cls: type, where: str) -> None:
    """Raise unless the values of ``cfg`` are of the types that a constructor of ours declares."""
    hints = get_type_hints(cls.__init__)
    for key, value in cfg.items():
        accepted = get_args(hints.get(key)) or (hints.get(key),)
        if not set(accepted) <= _TYPE_NAMES.keys():
            continue
        # Python counts True among the integers, and integers are good numbers.
        if type(value) in accepted or (type(value) is int and float in accepted):
            continue
        names = ' or '.join(_TYPE_NAMES[kind] for kind in accepted)
        raise ConfigError(f'{where}: {key} must be {names}, got {_shown(value)}')


def _shown(value: Any) -> str:
    return shortened(repr(value))


def build_component(cfg: Any, where: str, **filled_in) -> nn.Module:
    """Build a head or a loss, checking its type and its arguments first.

    Names without a scope are looked up in mmdiffkd before the other libraries, so that
    ``type='MSELoss'`` means ours whatever the config's default scope is.

    Args:
        cfg: Dict with ``type``.
        where: The config key, for errors.
        filled_in: Arguments that the distiller knows better than a config; those that the class
            does not take are left out.
    """
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise ConfigError(f"{where} must be a dict with a 'type', got {_shown(cfg)}")
    cfg = copy.deepcopy(dict(cfg))
    kind = cfg.pop('type')
    if not inspect.isclass(kind) and not isinstance(kind, str):
        raise ConfigError(f"{where}: 'type' must be a name, got {kind!r}")
    cls = kind if inspect.isclass(kind) else MODELS.get(kind)
    if cls is None:
        MODELS.import_from_location()
        known = sorted(MODELS.module_dict)
        raise ConfigError(
            f'{where}: no {kind!r} in the registry{suggest(kind, known)} '
            f'(mmdiffkd has {", ".join(known)}; name those of other libraries as '
            f"'mmdet.L1Loss')"
        )
    # A class without a constructor has nn.Module's, which names any arguments and takes none.
    plain = cls.__init__ is nn.Module.__init__
    parameters = {} if plain else inspect.signature(cls).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    accepted = [name for name in parameters if name not in filled_in]
    if not takes_any:
        check_keys(cfg, accepted, (), f'{where} ({cls.__name__})')
    if cls.__module__.partition('.')[0] == _PACKAGE:
        check_types(cfg, cls, f'{where} ({cls.__name__})')
    arguments = {k: v for k, v in filled_in.items() if takes_any or k in parameters}
    try:
        return cls(**{**arguments, **cfg})
    except ValueError as error:
        raise ConfigError(f'{where} ({cls.__name__}): {error}') from error
    except Exception as error:
        # Whatever the constructor of another library raises.
        raise ConfigError(f'{where} ({cls.__name__}): {describe(error)}') from error


def load_config(location: Any, where: str, with_weights: bool = False) -> Config:
    """The full config of a model from a path or a ``library::name``.

    Args:
        location: ``'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'`` or a file's path.
        where: The config key, for errors.
        with_weights: Also look up the library's published weight, as ``cfg.model_path``.
    """
    if not isinstance(location, (str, Path)):
        raise ConfigError(
            f'{where} must be a model dict, a path or a name like '
            f"'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', got {location!r}"
        )
    if '::' in str(location):
        library = str(location).partition('::')[0]
        if not library.isidentifier() or not is_installed(library):
            # mmengine would run pip here.
            raise ConfigError(f'{where}: {location!r} needs {library}, which is not installed')
        try:
            return get_config(str(location), pretrained=with_weights)
        except Exception as error:
            # mmengine raises ImportError, FileNotFoundError, AssertionError or ValueError here.
            raise ConfigError(
                f'{where}: {location!r} cannot be read: {describe(error)}'
                f'{_suggest_config(str(location))}'
            ) from error
    path = Path(location).expanduser()
    if not path.is_file():
        raise ConfigError(
            f'{where}: no file {str(location)!r} (looked from {Path.cwd()}); accepted are a path '
            f"and a name like 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'"
        )
    try:
        return Config.fromfile(path)
    except (Exception, SystemExit) as error:
        # A config is code of its author's: anything can happen in it.
        raise ConfigError(
            f'{where}: {str(location)!r} cannot be read: {describe(error)}'
        ) from error


def _suggest_config(location: str) -> str:
    """What to write instead of the name of a library's config that cannot be read."""
    library, _, name = location.partition('::')
    root = Path(find_spec(library).submodule_search_locations[0], '.mim', 'configs')
    # As the libraries' own indexes have them, for the folder gn+ws.
    name = unquote(name)
    if '+' in name and (root / name).is_file():
        return f'; give its path, {root / name}'
    known = [path.relative_to(root).as_posix() for path in root.glob('*/*.py')]
    return '' if name in known else suggest(name, known)


def model_config(config: Any, where: str) -> Dict:
    """The model dict of a config, with the scope to build it in, if it says one, as ``_scope_``.

    A file says its ``default_scope``, a type its library (``'mmdet.RetinaNet'``, or the class), a
    ``library::name`` the library. A student's dict is the model of the run, whose scope it has.

    Args:
        config: A model dict, a path or a ``library::name``.
        where: The config key, for errors; ``'student'`` for the student.

    Returns:
        A dict that the caller may change.
    """
    if isinstance(config, dict):
        if 'type' not in config:
            raise ConfigError(f"{where}: a model dict needs a 'type', got the keys {list(config)}")
        model = copy.deepcopy(dict(config))
        scope = None if where == 'student' else _scope_of(model['type'])
    else:
        cfg = load_config(config, where)
        if 'model' not in cfg:
            raise ConfigError(f"{where}: {config!r} has no 'model'")
        model = copy.deepcopy(dict(cfg.model))
        # mmpretrain keeps the preprocessing beside the model.
        if cfg.get('data_preprocessor') is not None:
            model.setdefault('data_preprocessor', cfg.data_preprocessor)
        scope = scope_of(cfg, config)
    if scope:
        model.setdefault('_scope_', scope)
    return model


def scope_of(cfg: Config, location: Any) -> Optional[str]:
    """The scope in which the parts of a config are built, or None if it does not say one.

    Args:
        cfg: The config; its ``default_scope`` or the library of its model's type says it.
        location: The config's path or ``library::name``, of which the library is the scope.
    """
    kind = (cfg.get('model') or {}).get('type')
    library = str(location).rpartition('::')[0]
    return cfg.get('default_scope') or (kind and _scope_of(kind)) or library or None


def _scope_of(kind: Any) -> Optional[str]:
    """The scope of the library that a type is of, or None if it does not say."""
    library, dot, _ = (kind if isinstance(kind, str) else f'{kind.__module__}.').partition('.')
    # Where mmengine, too, looks for a library's registries.
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
    """Change a model dict so that building and initialising it loads no weight from anywhere.

    Weights are what an ``init_cfg`` has as its ``checkpoint``, or has yet to get as one of type
    ``Pretrained``, and what stands under a key that speaks of them, such as mmseg's ``pretrained``,
    mmdet's ``teacher_ckpt`` or timm's ``checkpoint_path``.
    """
    for part in dicts_in(model):
        inits = part.get('init_cfg')
        if any(map(_loads_weights, dicts_in(inits))):
            listed = inits if isinstance(inits, (list, tuple)) else ()
            part['init_cfg'] = [init for init in listed if not _loads_weights(init)] or None
        for key, value in part.items():
            if isinstance(value, str) and value and any(word in str(key) for word in _WEIGHT_WORDS):
                part[key] = None
        # timm's models and others take a flag.
        if part.get('pretrained') is True:
            part['pretrained'] = False


def _loads_weights(init: Dict) -> bool:
    # Some models load a checkpoint whatever the type is, or without one.
    return 'checkpoint' in init or 'Pretrained' in str(init.get('type'))


def has_pretrained_weights(model: Dict) -> bool:
    """Whether a model dict names weights to start from, anywhere that :func:`forget_weights` looks.

    Args:
        model: The model dict.
    """
    without = copy.deepcopy(model)
    forget_weights(without)
    return without != model


def untrained_config(config: Any, where: str) -> Dict:
    """The model dict of a config as :func:`forget_weights` leaves it, with the scope it needs.

    Args:
        config: A model dict, a path or a ``library::name``.
        where: The config key, for errors.
    """
    model = model_config(config, where)
    forget_weights(model)
    return model


def student_config(model: Dict) -> Dict:
    """The plain student's model dict, from a distiller's, one in another's or a plain one.

    Args:
        model: The ``model`` of a config.
    """
    if 'student' not in model:
        return model
    student = model_config(model['student'], 'student')
    if model.get('data_preprocessor') is not None:
        student.setdefault('data_preprocessor', model['data_preprocessor'])
    return student_config(student)


def build_model(config: Any, where: str, data_preprocessor: Optional[Dict] = None) -> nn.Module:
    """Build a model without initialising or loading weights.

    Args:
        config: A model dict, a path or a ``library::name``.
        where: The config key, for errors.
        data_preprocessor: Used if the model's own config names none. A plain module, which takes
            none, has what its config names as an attribute.
    """
    model = model_config(config, where)
    if data_preprocessor is not None:
        model.setdefault('data_preprocessor', data_preprocessor)
    kind = model['type']
    try:
        with MODELS.switch_scope_and_registry(model.get('_scope_')) as registry:
            cls = registry.get(kind) if isinstance(kind, str) else kind
            if not inspect.isclass(cls) or issubclass(cls, BaseModel):
                return registry.build(model)
            apart = 'data_preprocessor' not in inspect.signature(cls).parameters
            preprocessor = model.pop('data_preprocessor', None) if apart else None
            module = registry.build(model)
            if preprocessor is not None:
                # Only mmpretrain's configs leave the type to the model.
                preprocessor = {'type': 'mmpretrain.ClsDataPreprocessor', **preprocessor}
                module.data_preprocessor = registry.build(preprocessor)
            return module
    except (CheckpointError, UnpicklingError):
        # Of weights that a constructor loads; the runner says how a refused file can be allowed.
        raise
    except Exception as error:
        # Whatever a host's constructor raises, the reader needs to know which model it was.
        kind, text = getattr(kind, '__name__', kind), describe(error)
        raise ConfigError(f'{where}: cannot build {kind!r}: {text}{_with_library(text)}') from error


def _with_library(text: str) -> str:
    """What to write instead of a type without a library, if another library has it."""
    name = re.match(r"no '(\w+)' in the \S+ registry", text)
    names = [f'{library}.{name[1]}' for library in _HOSTS if is_installed(library)] if name else ()
    found = [name for name in names if MODELS.get(name) is not None]
    return f'; write {" or ".join(map(repr, found))}' if found else ''


def run_for_features(
    model: nn.Module,
    paths: Iterable[str],
    inputs: Tensor,
    data_samples: Optional[Sequence] = None,
) -> None:
    """Run a model no further than the captured paths need.

    Args:
        model: A detector, segmentor or classifier, or a plain module that takes images alone.
        paths: The module paths being captured. Backbone and neck need ``extract_feat`` alone,
            anything else the host's ``mode='tensor'``.
        inputs: Prepared images, (N, C, H, W).
        data_samples: What the host's forward takes beside them.
    """
    modules = [FeaturePath.parse(path).module.partition('.')[0] for path in paths]
    has_features = hasattr(model, 'extract_feat') and not is_plain(model)
    if has_features and all(name in _FEATURE_MODULES for name in modules):
        model.extract_feat(inputs)
    else:
        run_completely(model, inputs, data_samples)


def run_completely(
    model: nn.Module, inputs: Tensor, data_samples: Optional[Sequence] = None
) -> None:
    """Run a model to its raw outputs; the arguments are :func:`run_for_features`'s."""
    if is_plain(model):
        model(inputs)
    elif _decodes_with_samples(model):
        model.decode_head(model.extract_feat(inputs), data_samples)
    else:
        model(inputs, data_samples, mode='tensor')


def is_plain(model: nn.Module) -> bool:
    """Whether it is a module that takes images alone, as backbones do, and no host's model."""
    return (
        not isinstance(model, BaseModel)
        and 'mode' not in inspect.signature(model.forward).parameters
    )


def _decodes_with_samples(model: nn.Module) -> bool:
    """Whether it is a segmentor whose head needs the data samples (Mask2Former, MaskFormer).

    mmseg's ``mode='tensor'`` does not hand them on.
    """
    head = getattr(model, 'decode_head', None)
    return head is not None and 'batch_data_samples' in inspect.signature(head.forward).parameters
