"""What the command-line tools share."""

from mmdiffkd.apis.distill import add_distill_arguments, distill
from mmdiffkd.apis.launch import (
    TESTING_KEYS,
    TRAINING_KEYS,
    KeyValueAction,
    add_config_arguments,
    build_runner,
    check_complete,
    load_config,
    merge_options,
)
from mmdiffkd.apis.processes import LostProcessError, process_group
from mmdiffkd.apis.train import add_train_arguments, apply_train_arguments, train
from mmdiffkd.autopair.make_config import list_modules
from mmdiffkd.engine.runner import complete_model
from mmdiffkd.errors import ArgumentParser, add_debug_argument, one_line_errors
