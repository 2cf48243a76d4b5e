"""Names: the student's weights have those that it gives them, everything else ``distill.``."""

from collections import OrderedDict
from typing import Any, Dict, List

from mmengine.logging import print_log
from torch import nn

from mmdiffkd.checkpoints.weights import DISTILL_PREFIX

STUDENT_PREFIX = 'student.'


def checkpoint_name(name: str) -> str:
    """The name of a distiller's parameter without what the distiller puts before the student's."""
    if name.startswith(STUDENT_PREFIX):
        return name[len(STUDENT_PREFIX) :]
    return DISTILL_PREFIX + name


def save_student(module: nn.Module, state_dict: Dict, prefix: str, _) -> None:
    """State-dict hook: what the student itself gives, and all of ours below ``distill.``.

    The student is asked by itself, because torch and mmengine do not heed what the state-dict hook
    of a submodule returns, and call none for its own prefix.
    """
    found = _taken(state_dict, prefix)
    keep_vars = any(isinstance(value, nn.Parameter) for value in found.values())
    student = module.student.state_dict(keep_vars=keep_vars)
    state_dict.update({prefix + name: value for name, value in student.items()})
    # By what the distiller has: a hook of the student that takes itself for the outermost may have
    # given any names to what lay below `student.`.
    ours = {*dir(module)} - {'student'}
    for name, value in found.items():
        if name.partition('.')[0] in ours:
            state_dict[prefix + DISTILL_PREFIX + name] = value
    # Module versions, by which a plain student's load hooks recognise old layouts.
    if hasattr(state_dict, '_metadata'):
        versions = getattr(student, '_metadata', {})
        state_dict._metadata.update(
            {(prefix + name).rstrip('.'): version for name, version in versions.items()}
        )


def load_student(
    module: nn.Module,
    state_dict: Dict,
    prefix: str,
    local_metadata: Dict,
    strict: bool,
    missing: List[str],
    unexpected: List[str],
    errors: List[str],
) -> None:
    """Load pre-hook: the student loads what is its own, the rest loses ``distill.``.

    Up to :func:`end_of_loading` the student is no submodule, so that nothing is loaded again.
    """
    student = module.student
    # A student that is a distiller, too, has names below `distill.` itself.
    theirs = {*student.state_dict()}
    weights = OrderedDict()
    # Copies such as an EMA's load below a prefix, where versions are not handed on; they are new.
    if hasattr(state_dict, '_metadata'):
        weights._metadata = state_dict._metadata
    for name, value in _taken(state_dict, prefix).items():
        if name in theirs or not name.startswith(DISTILL_PREFIX):
            # Names of modules, too: mmdet's SyncNormHook loads by them.
            weights[name.removeprefix(STUDENT_PREFIX)] = value
        else:
            state_dict[prefix + name[len(DISTILL_PREFIX) :]] = value
    reported = []
    handle = student.register_load_state_dict_post_hook(lambda _, keys: reported.append(keys))
    assign = local_metadata.get('assign_to_params_buffers')
    try:
        result = student.load_state_dict(weights, False, **(dict(assign=True) if assign else {}))
        # A student with a `load_state_dict` of its own may have called that of a part.
        reported = reported or [result]
    except RuntimeError as error:
        # All that fits is loaded; the text has a line for each that does not.
        _, *lines = str(error).split('\n\t')
        if not lines:
            raise
        named = f'size mismatch for {prefix}{STUDENT_PREFIX}'
        errors.extend(line.replace('size mismatch for ', named, 1) for line in lines)
    finally:
        handle.remove()
    for keys in filter(None, reported[-1:]):
        missing.extend(prefix + STUDENT_PREFIX + key for key in keys.missing_keys)
        unexpected.extend(prefix + STUDENT_PREFIX + key for key in keys.unexpected_keys)
    module.student = None
    vars(module)['student'] = student


def end_of_loading(module: nn.Module, keys: Any) -> None:
    """Load post-hook: the student is a submodule again, and a plain student's checkpoint will do.

    What such a checkpoint lacks of a distiller is not missing, only if it has no heads at all, and
    is a student of this kind.
    """
    module.student = module.student
    missing = {*keys.missing_keys}
    names = {name for name, _ in nn.Module.named_parameters(module)}
    ours = {name for name in names if not name.startswith(STUDENT_PREFIX)}
    if ours and ours <= missing and not names <= missing:
        keys.missing_keys[:] = [key for key in keys.missing_keys if key.startswith(STUDENT_PREFIX)]
        print_log("A plain student's checkpoint: the heads of the pairs start anew", 'current')


def _taken(state_dict: Dict, prefix: str) -> Dict:
    """What lies below a prefix, without it, taken out of a state dict."""
    keys = [key for key in state_dict if key.startswith(prefix)]
    return {key[len(prefix) :]: state_dict.pop(key) for key in keys}
