"""What happens during training."""

from .checkpoint import SafeCheckpointHook
from .exact_resume import ExactResumeHook
from .feature_pictures import FeaturePictureHook
from .interrupt import InterruptHook
from .memory import TrimMemoryHook
from .schedule import DistillationScheduleHook
from .teacher_check import TeacherCheckHook
from .telemetry import TelemetryHook

__all__ = [
    'DistillationScheduleHook',
    'ExactResumeHook',
    'FeaturePictureHook',
    'InterruptHook',
    'SafeCheckpointHook',
    'TeacherCheckHook',
    'TelemetryHook',
    'TrimMemoryHook',
]
