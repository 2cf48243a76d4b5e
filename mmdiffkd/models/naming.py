"""Names in checkpoints: the student's weights have its own names, all others ``distill.``.

The hooks here are registered with the state dict of a distiller, because mmengine's own saving and
loading calls hooks but no overridden ``state_dict()``.
"""

from collections import OrderedDict
from typing import Any, Dict, List

from torch import nn

from mmdiffkd.checkpoints.weights import DISTILL_PREFIX
from mmdiffkd.messages import tell

STUDENT_PREFIX = 'student.'


def checkpoint_name(name: str) -> str:
    """The name in checkpoints of a parameter that ``nn.Module`` calls ``name`` in a distiller."""
    if name.startswith(STUDENT_PREFIX):
        return name[len(STUDENT_PREFIX) :]
    return DISTILL_PREFIX + name


def save_student(module: nn.Module, state_dict: Dict, prefix: str, _: Any) -> None:
    """State-dict hook: rename what was found below ``prefix`` in a state dict of a distiller.

    The student is asked for its state dict once more: torch and mmengine ignore what a state-dict
    hook of a submodule returns, and a hook that the student has for its own prefix would not run.
    """
    found = take_below(state_dict, prefix)
    keep_vars = any(isinstance(value, nn.Parameter) for value in found.values())
    student = module.student.state_dict(keep_vars=keep_vars)
    state_dict.update({prefix + name: value for name, value in student.items()})
    # A hook of the student may have given any names to what lay below `student.`, so what is not
    # the student's is told by the attributes of the distiller.
    ours = {*dir(module)} - {'student'}
    for name, value in found.items():
        if name.partition('.')[0] in ours:
            state_dict[prefix + DISTILL_PREFIX + name] = value
    # Versions of modules, by which load hooks of a plain student recognise old layouts.
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
    """Load pre-hook: let the student load its own weights, and rename the others.

    Until :func:`end_of_loading` the student is no submodule, so that nothing is loaded twice.
    """
    student = module.student
    weights = OrderedDict()
    # Averages load below a prefix, where no versions are handed on; their layout is new.
    if hasattr(state_dict, '_metadata'):
        weights._metadata = state_dict._metadata
    for name, value in take_below(state_dict, prefix).items():
        if not name.startswith(DISTILL_PREFIX):
            # mmdet's SyncNormHook loads by the names of modules, which begin with `student.`.
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
        # torch has loaded all that fits, and its text has a line for each weight that does not.
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
    """Load post-hook: make the student a submodule again, and accept a plain student's checkpoint.

    What such a checkpoint lacks is not reported as missing, if it has no weight of the heads at all
    and some of the student.
    """
    module.student = module.student
    missing = {*keys.missing_keys}
    names = {name for name, _ in nn.Module.named_parameters(module)}
    ours = {name for name in names if not name.startswith(STUDENT_PREFIX)}
    if ours and ours <= missing and not names <= missing:
        keys.missing_keys[:] = [key for key in keys.missing_keys if key.startswith(STUDENT_PREFIX)]
        tell("A plain student's checkpoint: the heads of the pairs start anew")


def take_below(state_dict: Dict, prefix: str) -> Dict:
    """Take what lies below a prefix out of a state dict, and return it without the prefix."""
    keys = [key for key in state_dict if key.startswith(prefix)]
    return {key[len(prefix) :]: state_dict.pop(key) for key in keys}
