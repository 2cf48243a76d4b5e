"""Downloads of checkpoints to torch's cache, by one process of each machine."""

import hashlib
import os
import re
import sys
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import torch
from mmengine.dist import all_gather_object

from mmdiffkd.errors import CheckpointError
from mmdiffkd.messages import tell

# A file's name may end in the start of its SHA-256, or in a date.
_HASH = re.compile(r'-(?!20\d{6}\.)([0-9a-f]{8})\.\w+$')


def fetch(location: str) -> Path:
    """The local path for a path or URL; a URL is downloaded unless it is in the cache.

    A download is compared with the first eight digits of its SHA-256, if its name ends in them. Of
    several processes the first of each machine downloads, and all must call this function.

    Raises:
        CheckpointError: In all processes, if one of them cannot have the file.
    """
    if not location.startswith(('http://', 'https://')):
        return Path(location).expanduser()
    path, problem = cached_path(location), None
    if int(os.environ.get('LOCAL_RANK', 0)) == 0 and not path.is_file():
        tell(f'Downloading {location} to {path}')
        known = _HASH.search(path.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                location, str(path), known and known[1], progress=sys.stderr.isatty()
            )
        except (OSError, RuntimeError, ValueError, HTTPException) as error:
            problem = str(error)
    for error in filter(None, all_gather_object(problem)):
        what = f'checkpoint {location} cannot be downloaded: {error}'
        raise CheckpointError(f'{what}. Download it elsewhere and give its path')
    return path


def cached_path(url: str) -> Path:
    """The path of a URL's download. A name without a hash gets a folder named after the URL."""
    name = PurePosixPath(urlsplit(url).path).name or 'checkpoint'
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    if not _HASH.search(name):
        folder /= hashlib.sha256(url.encode()).hexdigest()[:8]
    return folder / name
