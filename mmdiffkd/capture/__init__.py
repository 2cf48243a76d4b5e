"""Reading and replacing what modules of a model pass on, by their names. Needs torch alone."""

from mmdiffkd.capture.features import FeatureCapture, wrapped_forward
from mmdiffkd.capture.path import FeaturePath, argument_name, resolve_path
from mmdiffkd.capture.replacement import replaced_input
