"""The runner of a distillation: it tells the distiller what data the student is trained on."""

from typing import Dict, List, Union

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmdiffkd.distillers import ConfigError, DiffKDDistiller
from mmdiffkd.hooks.model import model_of
from mmdiffkd.registry import MODELS, RUNNERS


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
        if isinstance(model, dict):
            cls = MODELS.get(model['type']) if isinstance(model['type'], str) else model['type']
            if isinstance(cls, type) and issubclass(cls, DiffKDDistiller):
                model = dict(model)
                model.setdefault('data', self.cfg.get('train_dataloader'))
        return super().build_model(model)

    def register_custom_hooks(self, hooks: List[Union[Hook, Dict]]) -> None:
        """Register hooks, unless one asks the model for a student and a teacher of its own kind.

        Args:
            hooks: Hooks or their configs.
        """
        super().register_custom_hooks(hooks)
        if not isinstance(model_of(self), DiffKDDistiller):
            return
        for kind in map(type, self.hooks):
            # mmdet's, or one made from it; mmdet need not be there.
            if any(base.__name__ == 'MeanTeacherHook' for base in kind.__mro__):
                raise ConfigError(
                    f'custom_hooks: {kind.__name__} averages a student into its teacher, but the '
                    f"teacher of a distiller never changes; take the hook out, or use mmengine's "
                    f'EMAHook to average the student'
                )
