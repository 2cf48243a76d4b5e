"""Downloads of checkpoints to torch's cache, by one process of each machine."""

import hashlib
import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Optional
from urllib.parse import urlsplit

import torch
from mmengine.dist import all_gather_object
from mmengine.logging import print_log

from mmdiffkd.errors import CheckpointError

# A file's name may end in the start of its SHA-256, or in a date.
_HASH = re.compile(r'-(?!20\d{6}\.)([0-9a-f]{8})\.\w+$')


def is_url(location: str) -> bool:
    """Whether a location is an HTTP address."""
    return location.startswith(('http://', 'https://'))


def fetch(location: str) -> Path:
    """The local path for a path or URL; a URL is downloaded unless it is in the cache.

    Where a file's name ends in the first eight digits of its SHA-256, as in the OpenMMLab libraries
    and torchvision, the download is compared with them. In a run of several processes the first of
    each machine downloads, and all of them must call this function.

    Raises:
        CheckpointError: In all processes, if one of them cannot have the file.
    """
    if not is_url(location):
        return Path(location)
    path, problem = cached_path(location), None
    if int(os.environ.get('LOCAL_RANK', 0)) == 0 and not path.is_file():
        print_log(f'Downloading {location} to {path}', 'current')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                location, str(path), _hash_in(path.name), progress=sys.stderr.isatty()
            )
        except (OSError, RuntimeError, ValueError) as error:
            problem = error
    for error in filter(None, all_gather_object(problem and str(problem))):
        raise CheckpointError(
            f'checkpoint {location} cannot be downloaded: {error}. Download it elsewhere and give '
            f'its path'
        )
    return path


def cached_path(url: str) -> Path:
    """The path of a URL's download; ``model.pth`` and other names without hash have a folder."""
    name = PurePosixPath(urlsplit(url).path).name
    if name in ('', '..'):
        raise CheckpointError(f'checkpoint {url} names no file')
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    if _hash_in(name) is None:
        folder /= hashlib.sha256(url.encode()).hexdigest()[:8]
    return folder / name


def _hash_in(name: str) -> Optional[str]:
    match = _HASH.search(name)
    return match and match[1]
