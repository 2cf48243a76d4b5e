"""Student parts that start from the teacher's weights."""

from typing import Dict, List, Mapping, Sequence, Union

from mmengine.logging import print_log
from torch import Tensor, nn

from mmdiffkd.errors import ConfigError


def inherited_modules(
    names: Union[Sequence[str], Dict[str, str]], student: nn.Module, teacher: nn.Module
) -> Dict[str, str]:
    """Check ``init_from_teacher`` and return it as a dict from student to teacher names."""
    if not isinstance(names, (list, tuple, dict)):
        raise ConfigError(f'init_from_teacher must be a list or a dict, got {names!r}')
    pairs = dict(names) if isinstance(names, dict) else {name: name for name in names}
    for student_name, teacher_name in pairs.items():
        shapes: List[Dict] = []
        for role, model, name in (
            ('student', student, student_name),
            ('teacher', teacher, teacher_name),
        ):
            modules = dict(model.named_modules())
            if name not in modules:
                raise ConfigError(f'init_from_teacher: the {role} has no module {name!r}')
            shapes.append({k: tuple(v.shape) for k, v in modules[name].state_dict().items()})
        if not shapes[0]:
            raise ConfigError(f'init_from_teacher: {student_name!r} has no weights')
        differing = sorted(
            key for key in {*shapes[0], *shapes[1]} if shapes[0].get(key) != shapes[1].get(key)
        )
        if differing:
            raise ConfigError(
                f'init_from_teacher: {student_name!r} of the student and {teacher_name!r} of the '
                f'teacher differ in {len(differing)} weights: {", ".join(differing[:5])}'
            )
    return pairs


def inherit(
    modules: Dict[str, str], student: nn.Module, weights: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Copy the weights of what :func:`inherited_modules` returned, and log it.

    Args:
        modules: Student's name to teacher's name.
        student: What gets the weights.
        weights: The teacher's state dicts by module name.
    """
    for student_name, teacher_name in modules.items():
        student.get_submodule(student_name).load_state_dict(weights[teacher_name])
        print_log(
            f'student.{student_name}: {len(weights[teacher_name])} tensors copied from the '
            f"teacher's {teacher_name}",
            'current',
        )
