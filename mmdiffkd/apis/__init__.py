"""What the command-line tools share."""

from mmdiffkd.apis.compare import compare
from mmdiffkd.apis.distill import distill
from mmdiffkd.apis.evaluation import evaluate
from mmdiffkd.apis.export import export_student
from mmdiffkd.apis.launch import (
    TESTING_KEYS,
    TRAINING_KEYS,
    build_runner,
    check_complete,
    load_config,
    merge_options,
)
from mmdiffkd.apis.processes import LostProcessError, process_group
from mmdiffkd.apis.train import apply_train_arguments, train
from mmdiffkd.autopair.make_config import list_modules
from mmdiffkd.command_line import (
    KeyValueAction,
    add_compare_arguments,
    add_config_arguments,
    add_distill_arguments,
    add_train_arguments,
)
from mmdiffkd.engine.runner import complete_model
