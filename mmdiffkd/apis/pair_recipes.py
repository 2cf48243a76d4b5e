"""From places to the pairs of a config: head and loss by what a place yields."""

import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from torch import nn

from mmdiffkd.distillers.build import ConfigError, run_for_features
from mmdiffkd.distillers.capture import FeatureCapture, resolve_path
from mmdiffkd.distillers.dry_run import (
    ImageShape,
    blaming,
    blank_batch,
    first_accepted,
    undisturbed,
)
from mmdiffkd.distillers.model_view import MapShape
from mmdiffkd.distillers.shapes import maps_of

from .pair_choice import PairChoice, indexed, match_levels, octaves

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
    shapes: Sequence[ImageShape],
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

    def capture(shape: ImageShape) -> Tuple[ImageShape, Dict, Dict]:
        ours = _capture(student, 'student', [choice.student for choice in choices], shape)
        theirs = _capture(teacher, 'teacher', [choice.teacher for choice in choices], shape)
        return shape, ours, theirs

    shape, student_maps, teacher_maps = first_accepted(shapes, capture)
    recipes: List[PairRecipe] = []
    for choice in choices:
        maps = student_maps[choice.student], teacher_maps[choice.teacher]
        choice, maps = _cut(choice, maps, shape[1])
        if choice.scores is None:
            choice = choice._replace(scores=_kind_of_scores(choice, maps, student))
        name, config = _recipe(choice, *maps)
        taken = sum(recipe.name.rstrip('0123456789') == name for recipe in recipes)
        name = f'{name}{taken + 1}' if taken else name
        recipes.append(PairRecipe(name, config, *maps, shape))
    return recipes


def _capture(
    model: nn.Module, role: str, paths: Sequence[str], shape: ImageShape
) -> Dict[str, List[MapShape]]:
    """Per path the shapes of its maps for one blank image."""
    image, samples = blank_batch(shape)
    with undisturbed(model), blaming(role, image):
        with FeatureCapture(model, paths, role=role) as features:
            run_for_features(model, features, image, samples)
        return {
            path: [tuple(m.shape[1:]) for m in maps_of(tensors, shape[1:])]
            for path, tensors in features.items()
        }


def _cut(
    choice: PairChoice, maps: Tuple[List[MapShape], List[MapShape]], side: int
) -> Tuple[PairChoice, Tuple[List[MapShape], List[MapShape]]]:
    """Keep the levels of two pyramids that have the same strides, if their numbers differ."""
    if len(maps[0]) == len(maps[1]):
        return choice, maps
    levels = match_levels(*(octaves(part, side) for part in maps))
    if levels is None or not all(re.fullmatch(r'[\w.]+', path) for path in choice[:2]):
        raise ConfigError(
            f'--pairs: student path {choice.student!r} yields {len(maps[0])} maps, teacher path '
            f'{choice.teacher!r} {len(maps[1])}, and no levels of the same stride can be told; '
            f"choose some with an index, as in '{choice.student}[-1]={choice.teacher}[-1]'"
        )
    paths = [indexed(path, part, len(m)) for path, part, m in zip(choice[:2], levels, maps)]
    return choice._replace(student=paths[0], teacher=paths[1]), tuple(
        m[part] for m, part in zip(maps, levels)
    )


def _kind_of_scores(choice: PairChoice, maps: Tuple, student: nn.Module):
    """What a place that was named by hand scores classes with, if it does."""
    channels = {shape[0] for part in maps for shape in part}
    are_vectors = all(shape[1:] == (1, 1) for part in maps for shape in part)
    if are_vectors and choice.student.startswith('head'):
        return 'softmax'
    if choice.student.startswith('decode_head') and ':' not in choice.student:
        num_classes = getattr(student, 'out_channels', None)
        if channels == {num_classes}:
            return 'sigmoid' if num_classes == 1 else 'softmax'
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
