"""Hooks of a training run."""

from mmdiffkd.engine.hooks.checkpoint import SafeCheckpointHook
from mmdiffkd.engine.hooks.exact_resume import ExactResumeHook
from mmdiffkd.engine.hooks.feature_pictures import FeaturePictureHook
from mmdiffkd.engine.hooks.interrupt import InterruptHook
from mmdiffkd.engine.hooks.non_finite_loss import NonFiniteLossError, NonFiniteLossHook
from mmdiffkd.engine.hooks.observing import TelemetryHook
from mmdiffkd.engine.hooks.pull import PullBalanceHook
from mmdiffkd.engine.hooks.schedule import DistillationScheduleHook
from mmdiffkd.engine.hooks.short_log import ShortLogHook
from mmdiffkd.engine.hooks.teacher_check import TeacherCheckHook

__all__ = [
    'DistillationScheduleHook', 'ExactResumeHook', 'FeaturePictureHook', 'InterruptHook',
    'NonFiniteLossError', 'NonFiniteLossHook', 'PullBalanceHook', 'SafeCheckpointHook',
    'ShortLogHook', 'TeacherCheckHook', 'TelemetryHook',
]  # fmt: skip
