"""Building models of the host libraries, and running them."""

import copy
import inspect
from pickle import UnpicklingError
from typing import Any, Dict, Iterable, Optional

from mmengine.model import BaseModel
from torch import Tensor, nn

from mmdiffkd.capture import FeaturePath
from mmdiffkd.errors import CheckpointError, ConfigError, describe, shortened, suggest
from mmdiffkd.models.configs import model_config
from mmdiffkd.registry import MODELS


def check_keys(cfg: Any, accepted: Iterable[str], required: Iterable[str], where: str) -> None:
    """Raise :class:`ConfigError` unless ``cfg`` is a dict with valid keys.

    All keys must be ``accepted``, and the ``required`` ones must have a value other than None.
    ``where`` is the config key of the dict.
    """
    accepted = list(accepted)
    names = ', '.join(accepted)
    if not isinstance(cfg, dict):
        got = shortened(repr(cfg))
        raise ConfigError(f'{where} must be a dict with the keys {names}; got {got}')
    for key in cfg:
        if key not in accepted:
            hint = suggest(key, accepted)
            raise ConfigError(f'{where}: unknown key {key!r}{hint} (accepted: {names})')
    for key in required:
        if cfg.get(key) is None:
            raise ConfigError(f'{where}: {key!r} is required')


def build_component(cfg: Any, where: str, **filled_in) -> nn.Module:
    """Build a head or a loss of ``cfg``, a dict with ``type`` and the arguments of the class.

    A type without a scope means a class of mmdiffkd. The class gets those of the arguments
    ``filled_in`` that it takes. ``where`` is the config key of the dict.
    """
    kind = cfg.get('type') if isinstance(cfg, dict) else None
    if not inspect.isclass(kind) and not isinstance(kind, str):
        raise ConfigError(f"{where} must be a dict with a 'type', got {shortened(repr(cfg))}")
    cls = kind if inspect.isclass(kind) else MODELS.get(kind)
    if cls is None:
        MODELS.import_from_location()
        known = sorted(MODELS.module_dict)
        raise ConfigError(
            f'{where}: no {kind!r} in the registry{suggest(kind, known)} '
            f"(mmdiffkd has {', '.join(known)}; name those of other libraries as 'mmdet.L1Loss')"
        )
    cfg = {key: copy.deepcopy(value) for key, value in cfg.items() if key != 'type'}
    # The constructor of nn.Module declares any arguments and accepts none.
    inherited = cls.__init__ is nn.Module.__init__
    parameters = {} if inherited else inspect.signature(cls).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        filled_in = {key: value for key, value in filled_in.items() if key in parameters}
        accepted = [name for name in parameters if name not in filled_in]
        check_keys(cfg, accepted, (), f'{where} ({cls.__name__})')
    try:
        return cls(**{**filled_in, **cfg})
    except Exception as error:
        # Ours say what is wrong; constructors of the hosts raise anything.
        text = error if isinstance(error, ValueError) else describe(error)
        raise ConfigError(f'{where} ({cls.__name__}): {text}') from error


def build_model(config: Any, where: str, data_preprocessor: Optional[Dict] = None) -> nn.Module:
    """Build a model without initialising or loading weights.

    An error of a host is the cause of a :class:`ConfigError` with the config key ``where``. The
    config ``data_preprocessor`` is used if that of the model has none; a plain module gets the data
    preprocessor as an attribute.
    """
    model = model_config(config, where)
    if data_preprocessor is not None:
        model.setdefault('data_preprocessor', data_preprocessor)
    kind = model['type']
    try:
        with MODELS.switch_scope_and_registry(model.get('_scope_')) as registry:
            cls = registry.get(kind) if isinstance(kind, str) else kind
            if cls is None:
                raise ConfigError(
                    f'{where}: no {kind!r} in the registry of {registry.scope}; name the library '
                    f"too, as in 'mmpretrain.{kind}'"
                )
            if not inspect.isclass(cls) or issubclass(cls, BaseModel):
                return registry.build(model)
            apart = 'data_preprocessor' not in inspect.signature(cls).parameters
            preprocessor = model.pop('data_preprocessor', None) if apart else None
            module = registry.build(model)
            if preprocessor is not None:
                # Only the configs of MMPretrain leave the type out.
                preprocessor = {'type': 'mmpretrain.ClsDataPreprocessor', **preprocessor}
                module.data_preprocessor = registry.build(preprocessor)
            return module
    except (ConfigError, CheckpointError, UnpicklingError):
        # The runner says how a refused file with weights can be allowed.
        raise
    except Exception as error:
        # The reader of any error of a host's constructor needs to know which model it was.
        kind = getattr(kind, '__name__', kind)
        raise ConfigError(f'{where}: cannot build {kind!r}: {describe(error)}') from error


def run_for_features(
    model: nn.Module, paths: Iterable[str], inputs: Tensor, data_samples: Any = None
) -> None:
    """Run a model on images (N, C, H, W) only as far as the captured modules at ``paths`` need.

    ``data_samples`` are the annotations, as the host's forward takes them.
    """
    parts = {FeaturePath.parse(path).module.partition('.')[0] for path in paths}
    if hasattr(model, 'extract_feat') and not is_plain(model) and parts <= {'backbone', 'neck'}:
        model.extract_feat(inputs)
    elif 'auxiliary_head' in parts:
        # MMSegmentation runs it for its losses alone.
        features, heads = model.extract_feat(inputs), model.auxiliary_head
        for head in (*heads,) if isinstance(heads, nn.ModuleList) else (heads,):
            head(features)
        model.decode_head(features)
    else:
        run_completely(model, inputs, data_samples)


def run_completely(model: nn.Module, inputs: Tensor, data_samples: Any = None) -> None:
    """Run a model up to its raw outputs; for the arguments see :func:`run_for_features`."""
    head = getattr(model, 'decode_head', None)
    if is_plain(model):
        model(inputs)
    elif head is not None and 'batch_data_samples' in inspect.signature(head.forward).parameters:
        # Mode 'tensor' of MMSegmentation does not pass the data samples on to MaskFormer's head.
        head(model.extract_feat(inputs), data_samples)
    else:
        model(inputs, data_samples, mode='tensor')


def is_plain(model: nn.Module) -> bool:
    """Whether a model takes images alone, as a backbone does, instead of being a host's model."""
    takes_mode = 'mode' in inspect.signature(model.forward).parameters
    return not isinstance(model, BaseModel) and not takes_mode
