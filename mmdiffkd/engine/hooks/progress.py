"""Tell how far a training is, for those who report its errors."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdiffkd.errors import training_is_under_way


class ProgressHook(Hook):
    """Says after a step of training that it is under way; see :mod:`mmdiffkd.errors`."""

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Say so."""
        training_is_under_way()
