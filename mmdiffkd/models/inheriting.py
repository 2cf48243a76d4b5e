"""Parts of the student that start from a teacher's weights."""

from typing import Dict, Mapping, Sequence, Tuple, Union

from torch import nn

from mmdiffkd.errors import ConfigError, suggest
from mmdiffkd.messages import tell
from mmdiffkd.models.teacher import Teacher
from mmdiffkd.models.teachers import split_path


def inherited_modules(
    names: Union[Sequence[str], Dict[str, str]], student: nn.Module, teachers: Mapping[str, Teacher]
) -> Dict[str, Tuple[str, str]]:
    """Check ``init_from_teacher``.

    Args:
        names: Modules of teachers that the student has too, or a dict from its own to theirs.
        student: Student.
        teachers: Teachers by their names.

    Returns:
        Name of the student's module -> name of the teacher, and of the module in it.
    """
    if not isinstance(names, (list, tuple, dict)):
        raise ConfigError(f'init_from_teacher must be a list or a dict, got {names!r}')
    texts = names.items() if isinstance(names, dict) else ((None, text) for text in names)
    found = {}
    for ours, text in texts:
        teacher, theirs = split_path(text, teachers, 'init_from_teacher')
        ours = theirs if ours is None else ours
        _check_equal(ours, student, theirs, teachers[teacher].model)
        found[ours] = teacher, theirs
    return found


def _check_equal(ours: str, student: nn.Module, theirs: str, teacher: nn.Module) -> None:
    """Raise :class:`ConfigError` unless two modules have the same weights, in names and shapes."""
    shapes = []
    for role, model, name in (('student', student, ours), ('teacher', teacher, theirs)):
        modules = dict(model.named_modules())
        module = modules.get(name)
        if module is None:
            hint = suggest(name, modules)
            raise ConfigError(f'init_from_teacher: the {role} has no module {name!r}{hint}')
        shapes.append({(key, x.shape) for key, x in module.state_dict().items()})
    differing = sorted({key for key, _ in shapes[0] ^ shapes[1]})
    if not shapes[0]:
        raise ConfigError(f'init_from_teacher: {ours!r} has no weights')
    if differing:
        raise ConfigError(
            f'init_from_teacher: {ours!r} of the student and {theirs!r} of the teacher differ '
            f'in {len(differing)} weights: {", ".join(differing[:5])}'
        )


def inherit(
    modules: Dict[str, Tuple[str, str]], student: nn.Module, teachers: Mapping[str, Teacher]
) -> None:
    """Copy the kept weights of teachers' modules, as :func:`inherited_modules` names them."""
    for name, (teacher, source) in modules.items():
        student.get_submodule(name).load_state_dict(teachers[teacher].kept_weights[source])
        tell(f"student.{name} starts with the weights of the teacher's {source}")
