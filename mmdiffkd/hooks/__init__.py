"""What happens during training."""

from .consistency import ConsistencyHook
from .feature_pictures import FeaturePictureHook
from .interrupt import InterruptHook
from .memory import TrimMemoryHook
from .schedule import DistillationScheduleHook
from .teacher_check import TeacherCheckHook
from .telemetry import TelemetryHook

__all__ = [
    'ConsistencyHook',
    'DistillationScheduleHook',
    'FeaturePictureHook',
    'InterruptHook',
    'TeacherCheckHook',
    'TelemetryHook',
    'TrimMemoryHook',
]
