"""Student modules that start with the teacher's weights (``init_from_teacher``)."""

from typing import Dict, Mapping, Sequence, Union

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
    students, teachers = dict(student.named_modules()), dict(teacher.named_modules())
    for ours, theirs in pairs.items():
        for role, modules, name in (('student', students, ours), ('teacher', teachers, theirs)):
            if name not in modules:
                raise ConfigError(f'init_from_teacher: the {role} has no module {name!r}')
        shapes = [
            {key: tuple(value.shape) for key, value in module.state_dict().items()}
            for module in (students[ours], teachers[theirs])
        ]
        if not shapes[0]:
            raise ConfigError(f'init_from_teacher: {ours!r} has no weights')
        differing = sorted({key for key, _ in shapes[0].items() ^ shapes[1].items()})
        if differing:
            raise ConfigError(
                f'init_from_teacher: {ours!r} of the student and {theirs!r} of the teacher differ '
                f'in {len(differing)} weights: {", ".join(differing[:5])}'
            )
    return pairs


def inherit(
    modules: Dict[str, str], student: nn.Module, weights: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Copy state dicts of teacher modules, by name in ``weights``, into student modules."""
    for name, source in modules.items():
        student.get_submodule(name).load_state_dict(weights[source])
        print_log(f"student.{name} starts with the weights of the teacher's {source}", 'current')
