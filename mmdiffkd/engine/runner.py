"""The runner of a distillation: it tells the distiller what data the student is trained on."""

from typing import Any, Dict, List, Union

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmdiffkd.engine.hooks.model import model_of
from mmdiffkd.errors import ConfigError
from mmdiffkd.models import DiffKDDistiller
from mmdiffkd.registry import MODELS, RUNNERS

# Hooks of the hosts, which need not be installed, and why they fail. All others work.
_UNSERVED = {
    'MeanTeacherHook': 'whose teacher never changes (to average the student, use EMAHook)',
    'PrepareProtoBeforeValLoopHook': 'as it heeds no model but a retriever',
}


def complete_model(cfg: Config) -> Dict:
    """The config of a run's model with what the runner adds, to build it without one.

    Args:
        cfg: A complete config. Some have the data preprocessor beside the model; a distiller gets
            ``train_dataloader`` as ``data``.
    """
    model = dict(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return _with_data(model, cfg.get('train_dataloader'))


def _with_data(model: Any, data: Any) -> Any:
    """The config of a model with ``data`` for a distiller, and for one that is its student."""
    kind = model.get('type') if isinstance(model, dict) else None
    cls = MODELS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(cls, type) or not issubclass(cls, DiffKDDistiller):
        return model
    return {'data': data, **model, 'student': _with_data(model['student'], data)}


@RUNNERS.register_module()
class DistillRunner(Runner):
    """mmengine's runner, which builds a distiller with the run's ``train_dataloader`` as ``data``.

    The tools use it by themselves; in a run that another library's ``tools/train.py`` starts it is
    asked for with ``runner_type='mmdiffkd.DistillRunner'`` in the config. Models that are no
    distillers are built as mmengine builds them.
    """

    def build_model(self, model: Union[nn.Module, Dict]) -> nn.Module:
        """Build the model of a config.

        Args:
            model: A built model, which is returned as it is, or the config of one.
        """
        return super().build_model(_with_data(model, self.cfg.get('train_dataloader')))

    def register_custom_hooks(self, hooks: List[Union[Hook, Dict]]) -> None:
        """Register hooks, unless one asks the model for a student and a teacher of its own kind.

        Args:
            hooks: Hooks or their configs.
        """
        super().register_custom_hooks(hooks)
        if not isinstance(model_of(self), DiffKDDistiller):
            return
        for kind in map(type, self.hooks):
            for base in kind.__mro__:
                if base.__name__ in _UNSERVED:
                    raise ConfigError(
                        f'custom_hooks: {kind.__name__} cannot be used with a distiller, '
                        f'{_UNSERVED[base.__name__]}; take it out'
                    )
