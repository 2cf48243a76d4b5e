"""Figures of features and training curves, drawn with matplotlib."""

from mmdiffkd.visualization.canvas import to_image
from mmdiffkd.visualization.curves import curves_figure
from mmdiffkd.visualization.features import Level, pair_figure
from mmdiffkd.visualization.run_log import RunLog, read_run
