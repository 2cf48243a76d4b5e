"""The runner of a distillation."""

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmdiffkd.apis import build_runner
from mmdiffkd.errors import ConfigError

from ..toy_run import toy_run


class MeanTeacherHook(Hook):
    """mmdet's, which averages `model.student` into `model.teacher`."""


@HOOKS.register_module()
class DelayedMeanTeacherHook(MeanTeacherHook):
    """Somebody's own."""


def test_hooks_that_ask_for_another_teacher_are_refused(toy_config, tmp_path):
    hooks = [dict(type='DelayedMeanTeacherHook')]
    build_runner(toy_run(toy_config['student'], tmp_path, custom_hooks=hooks))
    message = 'custom_hooks: MeanTeacherHook cannot be used with a distiller'
    with pytest.raises(ConfigError, match=message):
        build_runner(toy_run(toy_config, tmp_path, custom_hooks=hooks))
