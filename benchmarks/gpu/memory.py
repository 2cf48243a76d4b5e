#!/usr/bin/env python
"""What is said if a teacher does not fit the GPU, and whether a training returns its memory."""

import gc
import tempfile
from pathlib import Path

from rows import Rows, parse_part_args

import torch  # isort: skip
from miniature import CLASSIFIER, miniature

from mmdiffkd.apis import train
from mmdiffkd.errors import ConfigError


def returned(rows: Rows, folder: Path) -> None:
    """Report the memory before a training, and after it when its runner is gone."""
    # The first use of the GPU takes memory for good, such as cuBLAS's workspace.
    for number in range(2):
        before = torch.cuda.memory_allocated()
        runner = train(miniature(CLASSIFIER, folder / str(number), terminal_level='CRITICAL'))
        during = torch.cuda.max_memory_allocated()
        del runner
        gc.collect()
    left = (torch.cuda.memory_allocated() - before) / 2**20
    rows.add('memory after a training', left < 1, **{'left MiB': left, 'peak MiB': during / 2**20})


def does_not_fit(rows: Rows, folder: Path) -> None:
    """Report the error of a training whose models are larger than the memory."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**26) / total)
    try:
        train(miniature(CLASSIFIER, folder / 'large', terminal_level='CRITICAL'))
    except ConfigError as error:
        said = str(error)
        rows.add('a teacher that does not fit', 'out of memory' in said, text=said[:300])
    else:
        rows.add('a teacher that does not fit', False, text='no error in 64 MiB')


def main() -> None:
    args = parse_part_args(__doc__)
    if args.device == 'cpu':
        args.rows.add('GPU memory', None, text='not run: needs a GPU')
        return
    if args.rows.has('GPU memory', 'mmpretrain'):
        with tempfile.TemporaryDirectory() as folder:
            returned(args.rows, Path(folder))
            does_not_fit(args.rows, Path(folder))


if __name__ == '__main__':
    main()
