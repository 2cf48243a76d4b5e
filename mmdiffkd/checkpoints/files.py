"""Files that are on the disk as a whole or not at all."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Iterator, List, Optional, Union

from mmengine.fileio import LocalBackend, register_backend

# Name of AtomicBackend in mmengine: `backend_args=dict(backend=ATOMIC)`.
ATOMIC = 'mmdiffkd-atomic'


def replace_bytes(path: Union[str, Path], content: bytes) -> None:
    """Write a file so that the old or the new content is there, even after a power failure."""
    partial = f'{path}.partial'
    with open(partial, 'wb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def remove_partial_files(folder: Union[str, Path]) -> None:
    """Remove the files that a process was writing when it was killed."""
    for partial in Path(folder).glob('*.pth.partial'):
        partial.unlink()


class AtomicBackend(LocalBackend):
    """mmengine's local files, written with :func:`replace_bytes` and on request removed late."""

    # Paths to remove at the end of the block. The class holds them, because mmengine makes an
    # instance for every file that it writes.
    _outdated: ClassVar[Optional[List[str]]] = None

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write a file."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(filepath, obj)
        if self._outdated and str(filepath) in self._outdated:
            self._outdated.remove(str(filepath))

    def remove(self, filepath: Union[str, Path]) -> None:
        """Remove a file at once, or inside :meth:`removing_last` at the end of the block."""
        if self._outdated is None:
            super().remove(filepath)
        else:
            self._outdated.append(str(filepath))

    @classmethod
    @contextmanager
    def removing_last(cls) -> Iterator[None]:
        """Remove files at the end of the block, except those that were written again in it."""
        cls._outdated = []
        try:
            yield
            for path in cls._outdated:
                Path(path).unlink()
        finally:
            cls._outdated = None


register_backend(ATOMIC, AtomicBackend, force=True)
