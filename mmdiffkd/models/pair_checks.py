"""Checks of what a pair compares, when it is built and in its first steps."""

from contextlib import suppress
from typing import Any, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmdiffkd.errors import ConfigError
from mmdiffkd.models.dry_run import ImageShape, blank_features, first_accepted
from mmdiffkd.models.shapes import better_cut, cut_to, layouts_of, octaves_of_both, strides_of

# Sides in pixels of a second image, whose number of tokens tells patches from other tokens.
OTHER_SIDES = (256, 448, 96)


def find_layouts(
    pair: Any, role: str, model: nn.Module, shape: ImageShape, features: Sequence[Tensor]
) -> None:
    """Find out how the tokens of a :class:`DistillPair` lie in an image: ``pair.layouts[role]``.

    Args:
        pair: The pair.
        role: ``'student'`` or ``'teacher'``.
        model: Model of that role.
        shape: Channels, height and width of an image.
        features: Features that the path of the pair yields for that image.
    """
    if all(feature.ndim != 3 for feature in features):
        return
    path = pair.student_path if role == 'student' else pair.teacher_path
    where = f'pairs.{pair.name}: {role} path {path!r}'
    if pair.replaced:
        raise ConfigError(
            f'{where} yields tokens of what teacher_inputs gives it, which are no map of patches; '
            f'choose another module'
        )
    seen = [(features, shape[1:])]
    # A model may take images of one size only.
    with suppress(ConfigError):
        others = [(shape[0], side, side) for side in OTHER_SIDES]
        other, captured = first_accepted(
            [other for other in others if other != shape],
            lambda other: (other, blank_features(model, role, [path], other)[0]),
        )
        seen.append((captured[path], other[1:]))
    try:
        pair.layouts[role] = layouts_of(seen, strides_of(model))
    except ValueError as error:
        raise ConfigError(f'{where}: {error}') from error


def check_levels(
    pair: Any, maps: Sequence[Sequence[Tensor]], side: int, calls: Sequence[int]
) -> None:
    """Refuse pyramids of which different levels would be compared.

    Args:
        pair: The :class:`DistillPair`.
        maps: Maps of the student and maps of the teacher, each (N, C, H, W).
        side: Height of the image in pixels.
        calls: Numbers of calls of the student's and of the teacher's module.
    """
    paths, numbers = (pair.student_path, pair.teacher_path), [len(part) for part in maps]
    shapes = ([tuple(m.shape[1:]) for m in part] for part in maps)
    octaves = octaves_of_both(*shapes, side, pair.teacher_size and pair.teacher_size[0])
    levels = None if pair.replaced else better_cut(*octaves)
    cure = ''
    if levels is not None and set(calls) == {1}:
        cure = '; compare {!r} with {!r}'.format(*cut_to(paths, levels, numbers))
    elif levels is not None:
        cure = "; compare modules that yield all levels in one call, as 'neck' does"
    if numbers[0] != numbers[1]:
        raise ConfigError(
            f'pairs.{pair.name}: student path {paths[0]!r} yields {numbers[0]} maps, teacher path '
            f'{paths[1]!r} {numbers[1]}; they are matched one to one{cure}'
        )
    if octaves[0] == octaves[1] or pair.replaced:
        return
    strides = [', '.join(str(2**octave) for octave in part) for part in octaves]
    differ = (
        f'strides {strides[0]} of student {paths[0]!r} and {strides[1]} of teacher {paths[1]!r} '
        f'differ'
    )
    if cure:
        raise ConfigError(f'pairs.{pair.name}: {differ}{cure}')
    pair.warn_once(f"{differ}; the student's maps are resized")


def check_gradient(pair: Any, maps: Sequence[Tensor]) -> None:
    """Raise if no map of the student carries a gradient, and warn if only some do not."""
    frozen = [str(level) for level, feature in enumerate(maps) if not feature.requires_grad]
    if len(frozen) == len(maps):
        raise ConfigError(
            f'pairs.{pair.name}: no gradient flows into student path {pair.student_path!r}, from '
            f'which the student would learn nothing. Is the module frozen (frozen_stages), or '
            f'inside activation checkpointing (with_cp)?'
        )
    if frozen:
        pair.warn_once(
            f'no gradient flows into level {", ".join(frozen)} of student path '
            f'{pair.student_path!r}, so the student learns nothing there. If it is frozen '
            f"(frozen_stages), choose the other levels, as in '{pair.student_path}[1:]'"
        )


def check_teaches(
    pair: Any, features: Mapping[str, Sequence[Tensor]], target: Sequence[Tensor], inputs: Tensor
) -> None:
    """Run a pair once on features of a blank image, and warn if the student learns nothing from it.

    The arguments are those of :meth:`DistillPair.forward`.
    """
    ours = features[pair.student_path]
    if pair.uses_context or not any(feature.numel() for feature in ours):
        # A blank image has no annotations, and perhaps no rows, that could tell.
        return
    with torch.enable_grad():
        # Features of a blank image may be all alike, at which a distance can have no slope.
        ours = [(x + torch.rand_like(x)).detach().requires_grad_() for x in ours]
        theirs = [x + torch.rand_like(x) for x in target]
        entries = pair({**features, pair.student_path: ours}, theirs, inputs)
        loss = entries[f'loss_kd_{pair.name}']
        gradients = torch.autograd.grad(loss, ours, allow_unused=True) if loss.requires_grad else ()
    if not any(g is not None and bool((g != 0).any()) for g in gradients):
        pair.warn_once(
            'no gradient of its loss reaches the student, which learns nothing from this pair; is '
            'weight or loss.loss_weight 0, or does the head or the loss detach the feature?'
        )
