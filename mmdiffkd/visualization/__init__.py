"""Figures of features, training curves and noise levels, drawn with matplotlib."""

from mmdiffkd.visualization.canvas import to_image
from mmdiffkd.visualization.curves import curves_figure
from mmdiffkd.visualization.features import Level, pair_figure
from mmdiffkd.visualization.noise_sweep import NoiseSweep, noise_sweep_figure, sweep_noise
from mmdiffkd.visualization.run_log import RunLog, read_run
