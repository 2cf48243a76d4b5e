"""Where a run starts from."""

from typing import Any, Dict, List

from mmengine.config import Config

from mmdiffkd.checkpoints.download import fetch
from mmdiffkd.checkpoints.guarded_loading import OPT_OUT
from mmdiffkd.checkpoints.search import latest_checkpoint, read_whole
from mmdiffkd.errors import CheckpointError


def choose_checkpoint(cfg: Config) -> List[str]:
    """Settle ``resume`` and ``load_from``, and the seed.

    Where there is nothing to resume from, the run starts as if it had not been asked to, so that
    one command serves the first start of a job and all that follow a preemption.

    Args:
        cfg: Changed in place. ``resume`` may be True or ``'auto'`` for the newest checkpoint of the
            work directory (True with ``load_from`` is that file), or a path or URL.

    Returns:
        What the user should know about the choice, one sentence each.

    Raises:
        CheckpointError: If the file cannot be resumed from, or none of those that are there.
    """
    wanted = cfg.get('resume')
    if not wanted:
        return []
    if wanted is True:
        wanted = cfg.get('load_from') or 'auto'
    trust = cfg.get('trust_checkpoint', False)
    if wanted != 'auto':
        path = fetch(str(wanted))
        checkpoint = read_whole(path, trust, OPT_OUT)
        if 'optimizer' not in checkpoint:
            raise CheckpointError(
                f'--resume: {wanted} has no state of an optimizer to go on with; to start from '
                f'its weights set load_from'
            )
        _resume_from(cfg, str(path), checkpoint)
        return []
    path, checkpoint, passed_over = latest_checkpoint(cfg.work_dir, trust, OPT_OUT)
    if path is not None:
        _resume_from(cfg, str(path), checkpoint)
        return [f'--resume: passing over a newer file: {reason}' for reason in passed_over]
    if passed_over:
        # To start anew would overwrite what may be saved by hand.
        raise CheckpointError(
            f'--resume: none of the {len(passed_over)} checkpoints in {cfg.work_dir} can be used; '
            f'the newest: {passed_over[0]}'
        )
    cfg.resume = False
    return [f'--resume: nothing to go on from in {cfg.work_dir}, starting anew']


def _resume_from(cfg: Config, path: str, checkpoint: Dict[str, Any]) -> None:
    cfg.resume, cfg.load_from = True, path
    # The data loader is built before mmengine reads the checkpoint's seed.
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None:
        cfg.randomness = dict(randomness, seed=checkpoint['meta'].get('seed'))
