"""A student's checkpoint from that of its distillation."""

import os
from pathlib import Path
from typing import Union

import torch
from mmengine.config import Config

from mmdiffkd.checkpoints.download import fetch
from mmdiffkd.checkpoints.plain_config import plain_config
from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.checkpoints.weights import weights_of
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.configs import student_config


def export_student(
    checkpoint: str, out: Union[str, Path], trust_checkpoint: bool = False, force: bool = False
) -> str:
    """Write the student's weights, and the meta information that inferencers read, into a file.

    Args:
        checkpoint: Path or URL of a checkpoint of the distillation.
        out: File to write.
        trust_checkpoint: Whether to unpickle whatever the checkpoint contains.
        force: Whether to overwrite ``out``.

    Returns:
        A sentence on what was written.
    """
    out = Path(out)
    _check_out(out, Path(checkpoint), force)
    path = fetch(checkpoint)
    content = load_file(path, trust_checkpoint, 'give --trust-checkpoint')
    weights = weights_of(content)
    out.parent.mkdir(parents=True, exist_ok=True)
    meta = content.get('meta')
    meta = dict(meta) if isinstance(meta, dict) else {}
    if 'cfg' in meta:
        meta['cfg'] = _student_run_config(meta['cfg'], trust_checkpoint)
    # Beside it and then moved there: a full disk leaves what was there before.
    partial = out.with_name(f'.{out.name}.partial')
    try:
        torch.save(dict(meta=meta, state_dict=weights), partial)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    before, after = (Path(file).stat().st_size / 2**20 for file in (path, out))
    return (
        f'Student written to {out}: {len(weights)} tensors, {after:.1f} MiB '
        f'(the checkpoint has {before:.1f} MiB)'
    )


def _check_out(out: Path, source: Path, force: bool) -> None:
    """Raise if the output file would take the place of something that is needed."""
    if out.is_dir():
        raise ConfigError(f'{out} is a folder; name the file to write')
    if not out.exists():
        return
    if source.exists() and out.samefile(source):
        raise ConfigError(f'{out} is the checkpoint itself; name another file to write')
    if not force:
        raise ConfigError(f'{out} exists; --force overwrites it')


def _student_run_config(text: str, trust: bool) -> str:
    """The run's config with the student alone as its model, for inferencers that read it."""
    cfg = Config.fromstring(text, '.py') if trust else Config(plain_config(text))
    cfg.model = student_config(cfg.model)
    return cfg.pretty_text
