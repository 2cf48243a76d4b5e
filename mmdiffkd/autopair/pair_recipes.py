"""From places to the pairs of a config: head and loss by what a place yields."""

from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from torch import Tensor, nn

from mmdiffkd.autopair.model_view import view_model
from mmdiffkd.autopair.pair_choice import PairChoice, kind_of_scores
from mmdiffkd.capture import resolve_path
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.dry_run import ImageShape, blank_features, first_accepted
from mmdiffkd.models.levels import MapShape, better_cut, cut_to, octaves_of_both
from mmdiffkd.models.shapes import Size, layouts_of, maps_of, strides_of

# The reference diffuses wide features in an autoencoder's channels, this many.
_AE_CHANNELS = 1024


class PairRecipe(NamedTuple):
    """A pair as a config has it, and what it was made for.

    Attributes:
        name: The pair's key.
        config: With ``student``, ``teacher``, ``head`` and ``loss``.
        student_maps: What the student's path yields for one image.
        teacher_maps: What the teacher's yields.
        image: Channels, height and width of that image.
    """

    name: str
    config: Dict
    student_maps: List[MapShape]
    teacher_maps: List[MapShape]
    image: Optional[ImageShape]


def parse_pairs(texts: Union[str, Sequence[str]]) -> List[PairChoice]:
    """Read pairs as a command line has them.

    Args:
        texts: Each a module path for both models, such as ``'neck'``, or ``'student=teacher'``.

    Raises:
        ConfigError: If one is neither.
    """
    choices = []
    for text in [texts] if isinstance(texts, str) else texts:
        student, _, teacher = str(text).partition('=')
        if not student or '=' in teacher or str(text).endswith('='):
            raise ConfigError(
                f"--pairs: {text!r} must be a module path that both models have, such as 'neck', "
                f"or one of each, as in 'backbone[-1]=backbone.layer4'"
            )
        choices.append(PairChoice(student, teacher or student))
    return choices


def make_recipes(
    choices: Sequence[PairChoice],
    student: nn.Module,
    teacher: nn.Module,
    shapes: Iterable[ImageShape],
) -> List[PairRecipe]:
    """Give each pair a name, a head and a loss, by what its modules yield for a blank image.

    Pyramids of different levels are cut to those of equal stride.

    Args:
        choices: What to pair.
        student: The model.
        teacher: The model.
        shapes: Channels, height and width of the images to try.

    Raises:
        ConfigError: If a path names no module, or what it yields cannot be paired.
    """
    for choice in choices:
        for role, model in (('student', student), ('teacher', teacher)):
            try:
                resolve_path(model, getattr(choice, role), role)
            except ValueError as error:
                raise ConfigError(f'--pairs: {error}') from error

    paths = dict(student=[c.student for c in choices], teacher=[c.teacher for c in choices])
    models = dict(student=student, teacher=teacher)

    def capture(shape: ImageShape) -> Tuple[ImageShape, Dict]:
        return shape, {r: blank_features(models[r], r, paths[r], shape) for r in models}

    shape, captured = first_accepted(shapes, capture)
    recipes: List[PairRecipe] = []
    for choice in choices:
        maps, calls = [], set()
        for role, model in models.items():
            features, number = (part[getattr(choice, role)] for part in captured[role])
            where = f'{role} path {getattr(choice, role)!r}'
            maps.append(_map_shapes(features, shape[1:], model, where))
            calls.add(number)
        choice, maps = _cut(choice, maps, shape[1], calls == {1})
        if choice.scores is None:
            choice = choice._replace(scores=_kind_of_scores(choice, maps, student, shape))
        name, config = _recipe(choice, *maps)
        taken = sum(recipe.name.rstrip('0123456789') == name for recipe in recipes)
        name = f'{name}{taken + 1}' if taken else name
        recipes.append(PairRecipe(name, config, *maps, shape))
    return recipes


def _map_shapes(
    features: Sequence[Tensor], size: Size, model: nn.Module, where: str
) -> List[MapShape]:
    """The shapes of a module's features, as maps, of an image of a height and width."""
    try:
        layouts = layouts_of([(features, size)], strides_of(model))
        return [tuple(m.shape[1:]) for m in maps_of(features, size, layouts)]
    except ValueError as error:
        raise ConfigError(f'--pairs: {where}: {error}') from error


def _cut(
    choice: PairChoice, maps: Sequence[List[MapShape]], side: int, divisible: bool
) -> Tuple[PairChoice, Sequence[List[MapShape]]]:
    """Keep the levels of two pyramids that have the same strides, if they can be divided."""
    levels = better_cut(*octaves_of_both(*maps, side)) if divisible else None
    if levels is None:
        if len(maps[0]) == len(maps[1]):
            return choice, maps
        raise ConfigError(
            f'--pairs: student path {choice.student!r} yields {len(maps[0])} maps, teacher path '
            f'{choice.teacher!r} {len(maps[1])}, and no levels of the same stride can be told; '
            f"choose some with an index, as in '{choice.student}[-1]={choice.teacher}[-1]'"
        )
    student, teacher = cut_to(choice[:2], levels, [len(part) for part in maps])
    return choice._replace(student=student, teacher=teacher), tuple(
        part[chosen] for part, chosen in zip(maps, levels)
    )


def _kind_of_scores(
    choice: PairChoice, maps: Tuple, student: nn.Module, shape: ImageShape
) -> Optional[str]:
    """What a place that was named by hand scores classes with, if it does.

    It does if it yields as many numbers as the whole student: for an image, or by pixel in the
    decode head.
    """
    channels = {shape[0] for part in maps for shape in part}
    are_vectors = all(shape[1:] == (1, 1) for part in maps for shape in part)
    if ':' in choice.student or not (are_vectors or choice.student.startswith('decode_head')):
        return None
    view = view_model(student, 'student', (shape,), complete=True, trains=False)
    for output in view.outputs(2 if are_vectors else 4):
        if channels == {output.shape[1]}:
            return kind_of_scores(view, output.shape[1])
    return None


def _recipe(
    choice: PairChoice, student_maps: Sequence[MapShape], teacher_maps: Sequence[MapShape]
) -> Tuple[str, Dict]:
    """Name and config of a pair, as the shipped configs have them."""
    head: Dict = dict(type='DiffKDHead')
    loss: Dict = dict(type='MSELoss', loss_weight=1.0)
    are_vectors = all(shape[1:] == (1, 1) for shape in (*student_maps, *teacher_maps))
    if are_vectors:
        head['kernel_size'] = 1
    if choice.scores:
        name = 'logits'
        loss = dict(type='KLDivLoss', loss_weight=1.0)
        if choice.scores == 'sigmoid':
            loss['use_sigmoid'] = True
        if not are_vectors:
            # A channel per class: a quarter of them would leave little to predict with.
            head.update(reduction=1, adapter_reduction=1)
    else:
        name = 'fpn' if choice.student.startswith('neck') and len(student_maps) > 1 else 'features'
        if name == 'fpn':
            loss['loss_weight'] = 5.0
        if max(channels for channels, _, _ in teacher_maps) > _AE_CHANNELS:
            head['ae_channels'] = _AE_CHANNELS
    return name, dict(student=choice.student, teacher=choice.teacher, head=head, loss=loss)
