"""Pictures and curves, drawn with matplotlib into files and arrays."""

from mmdiffkd.visualization.canvas import save, to_image
from mmdiffkd.visualization.curves import curves_figure
from mmdiffkd.visualization.feature_rows import Level
from mmdiffkd.visualization.features import pair_figure
from mmdiffkd.visualization.noise_sweep import NoiseSweep, noise_sweep_figure, sweep_noise
from mmdiffkd.visualization.run_log import LogError, RunLog, Series, read_run

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
