"""What happens during training."""

from .feature_pictures import FeaturePictureHook
from .interrupt import InterruptHook
from .memory import TrimMemoryHook
from .telemetry import TelemetryHook

__all__ = ['FeaturePictureHook', 'InterruptHook', 'TelemetryHook', 'TrimMemoryHook']
