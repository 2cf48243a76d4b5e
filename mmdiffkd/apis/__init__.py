"""What the command-line tools share."""

from .launch import (
    add_config_arguments,
    build_runner,
    join_cpu_processes,
    load_config,
)

__all__ = ['add_config_arguments', 'build_runner', 'join_cpu_processes', 'load_config']
