"""From module paths to the pairs of a config: head and loss by what the modules yield."""

from typing import Dict, Iterable, List, Sequence, Tuple, Union

from torch import nn

from mmdiffkd.autopair.pair_choice import Choice
from mmdiffkd.autopair.survey import survey
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.dry_run import ImageShape, blank_features, first_accepted
from mmdiffkd.models.levels import MapShape, better_cut, cut_to, octaves_of_both
from mmdiffkd.models.shapes import layouts_of, maps_of, strides_of

_COMMENT = """\
# Maps of an image of {}x{}, channels x height x width:
#   student  {}
#   teacher  {}
"""
# The reference implementation diffuses wide features in an autoencoder of so many channels.
_AE_CHANNELS = 1024


def parse_pairs(texts: Union[str, Sequence[str]]) -> List[Choice]:
    """Read pairs of a command line: ``'path'`` for both models or ``'student=teacher'``."""
    choices = []
    for text in [texts] if isinstance(texts, str) else texts:
        paths = text.split('=') * (1 if '=' in text else 2)
        if len(paths) != 2 or '' in paths:
            raise ConfigError(
                f"--pairs: {text!r} must be a path that both models have, such as 'neck', or one "
                f"of each, as in 'backbone[-1]=backbone.layer4'"
            )
        choices.append(tuple(paths))
    return choices


def make_pairs(
    choices: Sequence[Choice], models: Sequence[nn.Module], shapes: Iterable[ImageShape]
) -> Tuple[Dict[str, Dict], Dict[str, str]]:
    """Give each pair a name, a head and a loss, by what its modules yield for a blank image.

    Pyramids of different levels are cut to those of equal stride. ``models`` are student and
    teacher, ``shapes`` those of the images to try. Returns name to config, and name to a comment.
    """

    def capture(shape: ImageShape) -> Tuple[ImageShape, List]:
        parts = zip(models, ('student', 'teacher'), zip(*choices))
        return shape, [blank_features(model, role, paths, shape) for model, role, paths in parts]

    pairs: Dict[str, Dict] = {}
    comments: Dict[str, str] = {}
    try:
        shape, captured = first_accepted(shapes, capture)
        for choice in choices:
            maps, calls = [], []
            for path, model, (features, number) in zip(choice, models, captured):
                layouts = layouts_of([(features[path], shape[1:])], strides_of(model))
                found = maps_of(features[path], shape[1:], layouts)
                maps.append([tuple(one.shape[1:]) for one in found])
                calls.append(number[path])
            levels = better_cut(*octaves_of_both(*maps, shape[1])) if calls == [1, 1] else None
            if levels is not None:
                choice = cut_to(choice, levels, [len(part) for part in maps])
                maps = [part[kept] for part, kept in zip(maps, levels)]
            name, config = _recipe(choice, maps, models[0], shape)
            taken = sum(other.rstrip('0123456789') == name for other in pairs)
            name = f'{name}{taken + 1}' if taken else name
            shown = (', '.join('x'.join(map(str, one)) for one in part) for part in maps)
            pairs[name], comments[name] = config, _COMMENT.format(*shape[1:], *shown)
    except ValueError as error:
        raise ConfigError(f'--pairs: {error}') from error
    return pairs, comments


def _recipe(
    choice: Choice, maps: List[List[MapShape]], student: nn.Module, image: ImageShape
) -> Tuple[str, Dict]:
    """Name and config of a pair, as the shipped configs have them."""
    if len(maps[0]) != len(maps[1]):
        raise ValueError(
            f'{choice[0]!r} yields {len(maps[0])} maps, {choice[1]!r} {len(maps[1])}, and no levels'
            f" of the same stride can be told; choose some, as in '{choice[0]}[-1]={choice[1]}[-1]'"
        )
    pair = dict(student=choice[0], teacher=choice[1], head=dict(type='DiffKDHead'))
    head, number = pair['head'], None
    vectors = all(shape[1:] == (1, 1) for part in maps for shape in part)
    if vectors:
        head['kernel_size'] = 1
    if ':' not in choice[0] and (vectors or choice[0].startswith('decode_head')):
        number = survey(student, 'student', (image,)).num_classes(2 if vectors else 4)
    if {channels for part in maps for channels, _, _ in part} == {number}:
        bases = {base.__name__ for module in student.modules() for base in type(module).__mro__}
        # A softmax of one channel says nothing, and of several labels not what was learned.
        sigmoid = dict(use_sigmoid=True) if number == 1 or 'MultiLabelClsHead' in bases else {}
        if not vectors:
            # A channel per class: a quarter of them would leave little to predict with.
            head.update(reduction=1, adapter_reduction=1)
        return 'logits', dict(pair, loss=dict(type='KLDivLoss', loss_weight=1.0, **sigmoid))
    name = 'fpn' if choice[0].startswith('neck') and len(maps[0]) > 1 else 'features'
    if max(channels for channels, _, _ in maps[1]) > _AE_CHANNELS:
        head['ae_channels'] = _AE_CHANNELS
    return name, dict(pair, loss=dict(type='MSELoss', loss_weight=5.0 if name == 'fpn' else 1.0))
