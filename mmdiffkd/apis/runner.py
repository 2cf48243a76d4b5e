"""The runner of a distillation: it tells the distiller what data the student is trained on."""

from typing import Dict, Union

from mmengine.runner import Runner
from torch import nn

from mmdiffkd.distillers import DiffKDDistiller
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
