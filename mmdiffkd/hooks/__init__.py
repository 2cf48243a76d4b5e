"""What happens during training."""

from .checkpoint import SafeCheckpointHook
from .consistency import ConsistencyHook
from .exact_resume import ExactResumeHook
from .feature_pictures import FeaturePictureHook
from .interrupt import InterruptHook
from .memory import TrimMemoryHook
from .non_finite_loss import NonFiniteLossError, NonFiniteLossHook
from .progress import ProgressHook
from .schedule import DistillationScheduleHook
from .teacher_check import TeacherCheckHook
from .telemetry import TelemetryHook

__all__ = [
    'ConsistencyHook',
    'DistillationScheduleHook',
    'ExactResumeHook',
    'FeaturePictureHook',
    'InterruptHook',
    'NonFiniteLossError',
    'NonFiniteLossHook',
    'ProgressHook',
    'SafeCheckpointHook',
    'TeacherCheckHook',
    'TelemetryHook',
    'TrimMemoryHook',
]
