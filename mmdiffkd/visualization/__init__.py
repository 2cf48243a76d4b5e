"""Pictures and curves, drawn with matplotlib into files and arrays."""

from .canvas import save, to_image
from .curves import curves_figure
from .feature_rows import Level
from .features import pair_figure
from .noise_sweep import NoiseSweep, noise_sweep_figure, sweep_noise
from .run_log import LogError, RunLog, Series, read_run

__all__ = [
    'Level',
    'LogError',
    'NoiseSweep',
    'RunLog',
    'Series',
    'curves_figure',
    'noise_sweep_figure',
    'pair_figure',
    'read_run',
    'save',
    'sweep_noise',
    'to_image',
]
