"""What happens during training."""

from .feature_pictures import FeaturePictureHook
from .interrupt import InterruptHook
from .memory import TrimMemoryHook
from .progress import ProgressHook
from .schedule import DistillationScheduleHook
from .teacher_check import TeacherCheckHook
from .telemetry import TelemetryHook

__all__ = [
    'DistillationScheduleHook',
    'FeaturePictureHook',
    'InterruptHook',
    'ProgressHook',
    'TeacherCheckHook',
    'TelemetryHook',
    'TrimMemoryHook',
]
