"""What the command-line tools share."""

from .launch import add_config_arguments, build_runner, cpu_processes, load_config
from .train import add_train_arguments, apply_train_arguments, train

__all__ = [
    'add_config_arguments',
    'add_train_arguments',
    'apply_train_arguments',
    'build_runner',
    'cpu_processes',
    'load_config',
    'train',
]
