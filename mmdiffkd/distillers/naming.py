"""Names: the student's weights have the student's own, everything else ``distill.``."""

from typing import Any, Callable, Dict

from mmengine.logging import print_log
from torch import nn

from mmdiffkd.checkpoint import DISTILL_PREFIX

STUDENT_PREFIX = 'student.'


def checkpoint_name(name: str) -> str:
    """The name in checkpoints of a distiller's parameter or buffer."""
    if name.startswith(STUDENT_PREFIX):
        return name[len(STUDENT_PREFIX) :]
    return DISTILL_PREFIX + name


def to_checkpoint_names(module: nn.Module, state_dict: Dict, prefix: str, _) -> None:
    """State-dict hook: ``student.x`` becomes ``x``, anything else of ours ``distill.x``."""
    _rename(state_dict, prefix, checkpoint_name)
    # Module versions, by which a plain student's load hooks recognise old layouts.
    versions = getattr(state_dict, '_metadata', {})
    student_prefix = prefix + STUDENT_PREFIX
    for key in [key for key in versions if (key + '.').startswith(student_prefix)]:
        name = prefix + key[len(student_prefix) :]
        versions[name.rstrip('.')] = versions[key]


def from_checkpoint_names(state_dict: Dict, prefix: str, *_) -> None:
    """Load pre-hook, the inverse of :func:`to_checkpoint_names`."""
    _rename(state_dict, prefix, _name_in_distiller)


def _name_in_distiller(name: str) -> str:
    if name.startswith(DISTILL_PREFIX):
        return name[len(DISTILL_PREFIX) :]
    return STUDENT_PREFIX + name


def _rename(state_dict: Dict, prefix: str, rename: Callable[[str], str]) -> None:
    """Rename in place all keys below a prefix."""
    keys = [key for key in state_dict if key.startswith(prefix)]
    # All are taken out first: a new name may be the old one of another key.
    renamed = {prefix + rename(key[len(prefix) :]): state_dict.pop(key) for key in keys}
    state_dict.update(renamed)


def without_heads_of_a_plain_student(module: nn.Module, keys: Any) -> None:
    """Load post-hook: what a plain student's checkpoint lacks of a distiller is not missing.

    Only if it has no heads at all, and is a student of this kind.
    """
    missing = {*keys.missing_keys}
    names = {name for name, _ in nn.Module.named_parameters(module)}
    ours = {name for name in names if not name.startswith(STUDENT_PREFIX)}
    if ours and ours <= missing and not names <= missing:
        keys.missing_keys[:] = [key for key in keys.missing_keys if key.startswith(STUDENT_PREFIX)]
        print_log("A plain student's checkpoint: the heads of the pairs start anew", 'current')
