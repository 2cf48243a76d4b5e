#!/usr/bin/env python
"""Extract the student from a checkpoint of a distillation.

The result has the student's weights and the meta information that inferencers of the host libraries
read (class names), without heads, optimizer and log. It loads strictly into the student's model.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from mmengine.config import Config

from mmdiffkd.checkpoints.download import fetch
from mmdiffkd.checkpoints.plain_config import plain_config
from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.checkpoints.weights import weights_of
from mmdiffkd.errors import ArgumentParser, ConfigError, add_debug_argument, one_line_errors
from mmdiffkd.models.configs import student_config


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='checkpoint of the distillation')
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument(
        '--trust-checkpoint', action='store_true', help='unpickle whatever the checkpoint contains'
    )
    parser.add_argument(
        '--force', action='store_true', help='overwrite the output file if there is one'
    )
    add_debug_argument(parser)
    return parser.parse_args()


def student_run_config(text: str, trust: bool) -> str:
    """The run's config with the student alone as its model, for inferencers that read it."""
    cfg = Config.fromstring(text, '.py') if trust else Config(plain_config(text))
    cfg.model = student_config(cfg.model)
    return cfg.pretty_text


def check_out(args: argparse.Namespace) -> None:
    """Raise if the output file would take the place of something that is needed."""
    if args.out.is_dir():
        raise ConfigError(f'{args.out} is a folder; name the file to write')
    if not args.out.exists():
        return
    source = Path(args.checkpoint)
    if source.exists() and args.out.samefile(source):
        raise ConfigError(f'{args.out} is the checkpoint itself; name another file to write')
    if not args.force:
        raise ConfigError(f'{args.out} exists; --force overwrites it')


def export(args: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    check_out(args)
    path = fetch(args.checkpoint)
    checkpoint = load_file(path, args.trust_checkpoint, 'give --trust-checkpoint')
    weights = weights_of(checkpoint)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    meta = checkpoint.get('meta')
    meta = dict(meta) if isinstance(meta, dict) else {}
    if 'cfg' in meta:
        meta['cfg'] = student_run_config(meta['cfg'], args.trust_checkpoint)
    # Beside it and then moved there: a full disk leaves what was there before.
    partial = args.out.with_name(f'.{args.out.name}.partial')
    try:
        torch.save(dict(meta=meta, state_dict=weights), partial)
        os.replace(partial, args.out)
    finally:
        partial.unlink(missing_ok=True)
    megabytes = [Path(file).stat().st_size / 2**20 for file in (path, args.out)]
    print(
        f'{args.out}: {len(weights)} tensors of the student, {megabytes[1]:.1f} MiB '
        f'(the checkpoint has {megabytes[0]:.1f} MiB)'
    )


def main() -> None:
    args = parse_args()
    with one_line_errors(args.debug):
        export(args)


if __name__ == '__main__':
    main()
