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
    for ours, theirs in pairs.items():
        shapes = []
        for role, model, name in (('student', student, ours), ('teacher', teacher, theirs)):
            module = dict(model.named_modules()).get(name)
            if module is None:
                raise ConfigError(f'init_from_teacher: the {role} has no module {name!r}')
            shapes.append({(key, x.shape) for key, x in module.state_dict().items()})
        differing = sorted({key for key, _ in shapes[0] ^ shapes[1]})
        if not shapes[0]:
            raise ConfigError(f'init_from_teacher: {ours!r} has no weights')
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
