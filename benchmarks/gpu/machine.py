#!/usr/bin/env python
"""Name the GPU, the versions of the libraries and the commit, for the records of a check."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

from rows import ROOT, parse_part_args

import torch  # isort: skip

LIBRARIES = ('torchvision', 'mmengine', 'mmcv', 'mmdet', 'mmsegmentation', 'mmpretrain')


def version_of(library: str) -> str:
    """The version of a library and the name under which it is installed, or 'not installed'."""
    names = [f'onedl-{library}', library]
    if library == 'mmdet':
        names.append('onedl-mmdetection')
    for name in names:
        try:
            return f'{version(name)} ({name})'
        except PackageNotFoundError:
            continue
    return 'not installed'


def main() -> None:
    args = parse_part_args(__doc__)
    if args.device == 'cuda':
        properties = torch.cuda.get_device_properties(0)
        memory = f'{properties.total_memory / 2**30:.0f} GiB'
        args.rows.add('GPU', None, model=properties.name, memory=memory)
        args.rows.add('CUDA', None, version=str(torch.version.cuda))
    command = ['git', 'rev-parse', '--short', 'HEAD']
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    args.rows.add('commit', None, hash=commit or 'no git repository')
    args.rows.add('Python', None, version=platform.python_version())
    args.rows.add('torch', None, version=torch.__version__)
    for library in LIBRARIES:
        args.rows.add(library, None, version=version_of(library))


if __name__ == '__main__':
    main()
