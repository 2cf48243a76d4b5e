#!/usr/bin/env python
"""Train a model with a config. The flags are those of mmdet, mmseg and mmpretrain."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdiffkd.command_line import (
    add_config_arguments,
    add_train_arguments,
    flags_of,
    tell_loading,
)
from mmdiffkd.errors import ArgumentParser, add_debug_argument, one_line_errors


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    add_train_arguments(parser)
    add_debug_argument(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    tell_loading()
    from mmdiffkd.apis import (
        TRAINING_KEYS,
        apply_train_arguments,
        check_complete,
        load_config,
        train,
    )

    with one_line_errors(args.debug):
        cfg = load_config(args)
        check_complete(cfg, TRAINING_KEYS)
        apply_train_arguments(cfg, args)
        train(cfg, args.smoke, flags_of(args))


if __name__ == '__main__':
    main()
