"""What happens during training."""

from .interrupt import InterruptHook
from .memory import TrimMemoryHook
from .schedule import DistillationScheduleHook
from .teacher_check import TeacherCheckHook

__all__ = ['DistillationScheduleHook', 'InterruptHook', 'TeacherCheckHook', 'TrimMemoryHook']
