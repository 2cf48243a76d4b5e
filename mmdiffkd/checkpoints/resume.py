"""The choice of the checkpoint that a run goes on from."""

import zipfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process

from mmdiffkd.checkpoints.download import fetch
from mmdiffkd.checkpoints.reading import OPT_OUT, load_file
from mmdiffkd.errors import CheckpointError


class Choice(NamedTuple):
    """The file that a run goes on from, its seed, and sentences for the user."""

    path: Optional[str]
    seed: Optional[int]
    remarks: List[str]


def choose_checkpoint(cfg: Config) -> List[str]:
    """Settle ``resume``, ``load_from`` and the seed of a config; returns remarks for the user.

    Where there is nothing to resume from, the run starts anew, so that one command serves the first
    start of a job and all later ones. The main process chooses; all processes must call this.

    Args:
        cfg: A run's config, changed in place. ``resume`` may be True or ``'auto'`` for the newest
            checkpoint of the work directory (True with ``load_from`` for that file), a path or URL.

    Raises:
        CheckpointError: If the file cannot be resumed from, or none of those that are there.
    """
    wanted = cfg.get('resume')
    if not wanted:
        return []
    if wanted is True:
        wanted = cfg.get('load_from') or 'auto'
    named = None if wanted == 'auto' else fetch(str(wanted))
    trust = cfg.get('trust_checkpoint') is True
    choice = None
    if is_main_process():
        try:
            choice = _named(named, trust) if named else _newest(cfg.work_dir, trust)
        except CheckpointError as error:
            choice = error
    broadcast_object_list(choices := [choice])
    choice = choices[0]
    if isinstance(choice, CheckpointError):
        raise choice
    cfg.resume = choice.path is not None
    if cfg.resume:
        cfg.load_from = choice.path
        # The data loaders are built before mmengine reads the seed from the checkpoint.
        randomness = cfg.get('randomness') or {}
        if randomness.get('seed') is None:
            cfg.randomness = dict(randomness, seed=choice.seed)
    return choice.remarks


def _named(path: Path, trust: bool) -> Choice:
    checkpoint = read_whole(path, trust)
    if 'optimizer' not in checkpoint:
        raise CheckpointError(
            f'--resume: {path} has no state of an optimizer to go on with; to start from its '
            f'weights set load_from'
        )
    return Choice(str(path), checkpoint['meta'].get('seed'), [])


def _newest(work_dir: str, trust: bool) -> Choice:
    """The newest whole checkpoint with the state of an optimizer."""
    files = {*Path(work_dir).glob('*.pth')}
    pointer = Path(work_dir, 'last_checkpoint')
    if pointer.is_file():
        # It may name a file in another folder. After a kill it is one file behind.
        files |= {path for path in [Path(pointer.read_text().strip())] if path.is_file()}
    damaged = []
    for path in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            checkpoint = read_whole(path, trust)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        if 'optimizer' in checkpoint:
            remarks = [f'--resume: passing over a newer file: {reason}' for reason in damaged]
            return Choice(str(path), checkpoint['meta'].get('seed'), remarks)
    if damaged:
        # A new start would overwrite files that may be saved by hand.
        raise CheckpointError(
            f'--resume: none of the {len(damaged)} checkpoints in {work_dir} can be used; '
            f'the newest: {damaged[0]}'
        )
    return Choice(None, None, [f'--resume: nothing to go on from in {work_dir}, starting anew'])


def read_whole(path: Path, trust: bool) -> Dict[str, Any]:
    """Read a checkpoint of a training, whose bytes are compared with their checksums."""
    # torch reads tensors without looking at the checksums.
    damaged = zipfile.ZipFile(path).testzip() if zipfile.is_zipfile(path) else None
    if damaged is not None:
        raise CheckpointError(f'checkpoint {str(path)!r} is damaged (in its part {damaged!r})')
    checkpoint = load_file(path, trust, OPT_OUT)
    meta = checkpoint.get('meta')
    is_training = isinstance(meta, dict) and {'epoch', 'iter'} <= meta.keys()
    if not is_training or not isinstance(checkpoint.get('state_dict'), dict):
        raise CheckpointError(f'checkpoint {str(path)!r} was not written while training')
    return checkpoint
