"""What the command-line tools share."""

from .distill import add_distill_arguments, distill, list_modules
from .errors import add_debug_argument, one_line_errors
from .launch import add_config_arguments, build_runner, load_config
from .processes import LostProcessError, process_group
from .train import add_train_arguments, apply_train_arguments, train

__all__ = [
    'LostProcessError',
    'add_config_arguments',
    'add_debug_argument',
    'add_distill_arguments',
    'add_train_arguments',
    'apply_train_arguments',
    'build_runner',
    'distill',
    'list_modules',
    'load_config',
    'one_line_errors',
    'process_group',
    'train',
]
