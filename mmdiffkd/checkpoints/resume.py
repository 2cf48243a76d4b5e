"""The choice of the checkpoint that a run goes on from."""

import zipfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process

from mmdiffkd.checkpoints.download import fetch
from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.errors import CheckpointError, describe


def choose_checkpoint(cfg: Config) -> Sequence[str]:
    """Settle ``resume``, ``load_from`` and the seed of a config; returns remarks for the user.

    The config changes in place. Its ``resume`` may be a path, a URL, ``'auto'`` for the newest
    checkpoint of the work directory, or True for ``load_from``, else ``'auto'``. Where there is
    nothing to resume from, the run starts anew. All processes must call this; the main one chooses.

    Raises:
        CheckpointError: If the file cannot be resumed from, or none of those that are there.
    """
    wanted = cfg.get('resume')
    if not wanted:
        return ()
    if wanted is True:
        wanted = cfg.get('load_from') or 'auto'
    named = None if wanted == 'auto' else fetch(str(wanted))
    choices = [None]
    if is_main_process():
        files = [named] if named else _newest_first(cfg.work_dir)
        try:
            choices = [_first_whole(files, cfg.get('trust_checkpoint') is True)]
        except Exception as error:
            # The other processes are waiting for the choice, and end with the same error.
            choices = [error]
    broadcast_object_list(choices)
    (choice,) = choices
    if isinstance(choice, Exception):
        raise choice
    if choice is None:
        cfg.resume = False
        return [f'--resume: nothing to go on from in {cfg.work_dir}, starting anew']
    cfg.resume, (cfg.load_from, seed, remarks) = True, choice
    # The data loaders are built before mmengine reads the seed from the checkpoint.
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None:
        cfg.randomness = dict(randomness, seed=seed)
    return remarks


def _newest_first(work_dir: str) -> List[Path]:
    # Those of the best validation have no state of an optimizer.
    files = {path for path in Path(work_dir).glob('*.pth') if not path.name.startswith('best_')}
    pointer = Path(work_dir, 'last_checkpoint')
    # It may name a file in another folder. After a kill it is one file behind.
    if pointer.is_file() and (last := Path(pointer.read_text().strip())).is_file():
        files.add(last)
    return sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _first_whole(files: List[Path], trust: bool) -> Optional[Tuple]:
    """The first file to go on from, its seed, and why those before it were passed over."""
    problems = []
    for path in files:
        try:
            seed = _read_whole(path, trust)['meta'].get('seed')
        except CheckpointError as error:
            problems.append(str(error))
        else:
            return str(path), seed, [f'--resume: passing over a newer file: {p}' for p in problems]
    if problems:
        # A new start would overwrite files that may be saved by hand.
        raise CheckpointError(f'--resume: {problems[0]} (none of {len(files)} files can be used)')
    return None


def _read_whole(path: Path, trust: bool) -> Dict[str, Any]:
    """Read a checkpoint of a training, whose bytes are compared with their checksums."""
    # torch reads tensors without looking at the checksums.
    try:
        damaged = zipfile.ZipFile(path).testzip() if zipfile.is_zipfile(path) else None
    except Exception as error:
        # zipfile does not say which errors a damaged directory of the archive causes.
        damaged = describe(error)
    if damaged is not None:
        raise CheckpointError(f'checkpoint {str(path)!r} is damaged (in its part {damaged!r})')
    checkpoint = load_file(path, trust)
    meta = checkpoint.get('meta')
    if 'state_dict' not in checkpoint or not isinstance(meta, dict) or 'iter' not in meta:
        raise CheckpointError(f'checkpoint {str(path)!r} was not written while training')
    if 'optimizer' not in checkpoint:
        raise CheckpointError(f'{path} has no state of an optimizer; load_from starts from it anew')
    return checkpoint
