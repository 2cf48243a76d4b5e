"""Make a data set directory once, completely, and never on top of something else."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Union

MARKER = 'mini_dataset.json'
"""File that tells a complete miniature data set, and how it was made."""


def build_once(
    root: Union[str, Path], params: Dict[str, Any], write: Callable[[Path], None]
) -> Path:
    """Fill ``root`` by calling ``write``, unless the same data is there already.

    The data is written beside ``root`` and moved there when complete, so that neither an
    interrupted run nor several processes at once leave half a data set behind.

    Args:
        root: The directory to make. It may be missing or empty.
        params: All that determines the data, as JSON values. Kept in ``root/mini_dataset.json``.
        write: Writes the data set into the (existing, empty) directory it is given.

    Returns:
        ``root`` as an absolute path.

    Raises:
        FileExistsError: ``root`` holds anything else: other data, or a miniature data set made
            with other parameters.
    """
    root = Path(root).expanduser().resolve()
    params = json.loads(json.dumps(params))  # tuples become lists, as they come back from disk
    if _is_made(root, params):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f'.{root.name}-', dir=root.parent))
    try:
        write(partial)
        (partial / MARKER).write_text(json.dumps(params, indent=2) + '\n')
        partial.chmod(0o755)  # mkdtemp makes private directories
        # A second process may have been faster; its data is the same.
        if not _is_made(root, params):
            os.replace(partial, root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def _is_made(root: Path, params: Dict[str, Any]) -> bool:
    """Whether ``root`` already holds the data; raises if it holds something else."""
    if not root.exists():
        return False
    marker = root / MARKER
    if marker.is_file():
        found = json.loads(marker.read_text())
        if found == params:
            return True
        keys = sorted(k for k in {*found, *params} if found.get(k) != params.get(k))
        differences = ', '.join(f'{k}: {found.get(k)} there, {params.get(k)} asked' for k in keys)
        raise FileExistsError(
            f'{root} holds a miniature data set made with other parameters ({differences}). '
            'Delete it or choose another directory.'
        )
    if not root.is_dir() or any(root.iterdir()):
        raise FileExistsError(
            f'{root} exists and is no miniature data set; nothing was written. '
            'Choose an empty or new directory.'
        )
    return False
