"""Downloads of checkpoints: whole, verified, and one process of each machine at a time."""

import hashlib
import logging
import os
import re
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import Optional
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch
from mmengine.dist import all_gather_object
from mmengine.logging import print_log
from torch.hub import tqdm

from mmdiffkd.errors import CheckpointError

# The libraries end a file's name with the start of its SHA-256. A date can stand there, too.
_HASH = re.compile(r'-(?!20\d{6}\.)([0-9a-f]{8})\.\w+$')
_SECONDS_WITHOUT_DATA = 60
_CHUNK = 2**20


def is_url(location: str) -> bool:
    """Whether it is fetched over HTTP."""
    return re.match(r'https?://', location) is not None


def fetch(location: str) -> Path:
    """A local path for ``location``: itself, or the cached download if it is a URL.

    The cache is torch's. Where a file's name ends in the first eight digits of its SHA-256, as
    those of the OpenMMLab libraries and torchvision do, they are checked, in the cache as well.
    With several processes the first of each machine downloads; all of them have to call this.

    Raises:
        CheckpointError: In all processes, if one of them cannot have the file.
    """
    if not is_url(location):
        return Path(location)
    problem = None
    # mmengine's own local rank is there only for those who make its local groups.
    if int(os.environ.get('LOCAL_RANK', 0)) == 0:
        try:
            _ensure_cached(location)
        except (CheckpointError, OSError, ValueError) as error:
            problem = (
                f'checkpoint {location} cannot be downloaded: {error}. Download it elsewhere and '
                f'give its path'
            )
    problems = [text for text in all_gather_object(problem) if text is not None]
    if problems:
        raise CheckpointError(problems[0])
    return cached_path(location)


def cached_path(url: str) -> Path:
    """Where the download of a URL is kept.

    As torch does, by the name of the file, if that tells the contents. Others have a folder per
    URL: there are many ``model.pth``.
    """
    name = PurePosixPath(urlsplit(url).path).name
    if name in ('', '..'):
        raise CheckpointError(f'checkpoint {url} names no file')
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    if _hash_in(name) is None:
        folder /= hashlib.sha256(url.encode()).hexdigest()[:8]
    return folder / name


def _ensure_cached(url: str) -> None:
    path = cached_path(url)
    if path.is_file():
        problem = _mismatch(path.name, _sha256(path))
        if problem is None:
            return
        print_log(f'{path} is downloaded again: {problem}', 'current', logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    print_log(f'Downloading {url} to {path}', 'current')
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f'.{path.name}.') as folder:
        partial = Path(folder, path.name)
        problem = _mismatch(path.name, _download(url, partial))
        if problem is not None:
            raise CheckpointError(f'{problem}, so it was removed')
        partial.replace(path)


def _download(url: str, path: Path) -> str:
    """Write what a URL yields into a file; returns its SHA-256."""
    digest, size = hashlib.sha256(), 0
    # Some servers turn away Python's own name.
    request = Request(url, headers={'User-Agent': 'torch.hub'})
    with urlopen(request, timeout=_SECONDS_WITHOUT_DATA) as response, path.open('wb') as file:
        length = response.headers['Content-Length']
        total = int(length) if length is not None else None
        # In a log file the bar would be one line of many kilobytes.
        with tqdm(total=total, unit='B', unit_scale=True, disable=not sys.stderr.isatty()) as bar:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                bar.update(len(chunk))
    if total is not None and size != total:
        raise CheckpointError(f'the connection ended after {size} of {total} bytes')
    return digest.hexdigest()


def _mismatch(name: str, sha256: str) -> Optional[str]:
    """What is wrong with a file of this name and hash, if anything."""
    expected = _hash_in(name)
    if expected is None or sha256.startswith(expected):
        return None
    return (
        f'the SHA-256 of the file begins with {sha256[:8]} and not, as its name says, with '
        f'{expected}'
    )


def _hash_in(name: str) -> Optional[str]:
    match = _HASH.search(name)
    return match and match[1]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
