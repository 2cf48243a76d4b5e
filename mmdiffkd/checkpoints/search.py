"""Find the checkpoint that a run goes on from."""

import zipfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Union

from mmdiffkd.checkpoints.weights import load_file
from mmdiffkd.errors import CheckpointError


def read_whole(path: Union[str, Path], trust: bool, opt_out: str) -> Dict[str, Any]:
    """Read a training checkpoint and make sure that every byte is what was written.

    Args:
        path: A local file.
        trust: See :func:`mmdiffkd.checkpoints.weights.load_file`.
        opt_out: Likewise.

    Raises:
        CheckpointError: If it is damaged, or no checkpoint of mmengine.
    """
    checkpoint = load_file(path, trust, opt_out)
    # torch reads the bytes of tensors as they are; the sums are in the file.
    damaged = zipfile.ZipFile(path).testzip() if zipfile.is_zipfile(path) else None
    if damaged is not None:
        raise CheckpointError(f'checkpoint {str(path)!r} is damaged (in its part {damaged!r})')
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if not isinstance(meta, dict) or not {'epoch', 'iter'} <= meta.keys():
        raise CheckpointError(
            f'checkpoint {str(path)!r} was not written while training: it does not say after '
            f'which epoch and iteration'
        )
    if not isinstance(checkpoint.get('state_dict'), dict):
        raise CheckpointError(f'checkpoint {str(path)!r} holds no weights (no state_dict)')
    return checkpoint


class Found(NamedTuple):
    """What :func:`latest_checkpoint` found.

    Attributes:
        path: The newest whole checkpoint; None if there is none.
        checkpoint: Its content, else empty.
        passed_over: One sentence for each damaged file that is newer.
    """

    path: Optional[Path]
    checkpoint: Dict[str, Any]
    passed_over: List[str]


def latest_checkpoint(work_dir: Union[str, Path], trust: bool, opt_out: str) -> Found:
    """The newest whole checkpoint of a run.

    Files without the state of an optimizer (the best and the exported students) do not count.

    Args:
        work_dir: Of the run. ``last_checkpoint`` in it may name a file elsewhere.
        trust: See :func:`mmdiffkd.checkpoints.weights.load_file`.
        opt_out: Likewise.
    """
    files = set(Path(work_dir).glob('*.pth'))
    named = Path(work_dir, 'last_checkpoint')
    if named.is_file():
        files |= {path for path in [Path(named.read_text().strip())] if path.is_file()}
    passed_over = []
    # By time, not by name: names are the user's, and kills leave last_checkpoint one file behind.
    for path in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            checkpoint = read_whole(path, trust, opt_out)
        except CheckpointError as error:
            passed_over.append(str(error))
            continue
        if 'optimizer' in checkpoint:
            return Found(path, checkpoint, passed_over)
    return Found(None, {}, passed_over)
