"""Levels of pyramids: which of them have the same stride, and how to name these."""

import difflib
import math
from typing import List, Optional, Sequence, Tuple

MapShape = Tuple[int, int, int]
"""Channels, height and width; a vector's height and width are 1."""

Levels = Tuple[slice, slice]
"""Which levels of student and teacher belong together."""


def octaves(maps: Sequence[MapShape], side: int) -> List[int]:
    """Logarithms of the strides of maps of an image that is ``side`` pixels high.

    Rounded, because sizes that are no multiple of a stride are rounded too.
    """
    return [round(math.log2(side / height)) for _, height, _ in maps]


def match_levels(student: Sequence[Optional[int]], teacher: Sequence[int]) -> Optional[Levels]:
    """The longest run of levels that two pyramids have in common.

    Args:
        student: The :func:`octaves` of its levels, None for those that match nothing.
        teacher: Likewise.

    Returns:
        Which levels of student and teacher belong together, or None if no strides agree.
    """
    matcher = difflib.SequenceMatcher(None, student, teacher)
    match = matcher.find_longest_match(0, len(student), 0, len(teacher))
    if match.size == 0:
        return None
    return slice(match.a, match.a + match.size), slice(match.b, match.b + match.size)


def octaves_of_both(
    student: Sequence[MapShape], teacher: Sequence[MapShape], side: int
) -> Tuple[List[int], List[int]]:
    """The :func:`octaves` of the maps of two models.

    A single value, as vectors have, is compared with the mean of a map, whatever its stride: the
    student's stride is then the teacher's.
    """
    ours, theirs = octaves(student, side), octaves(teacher, side)
    if len(ours) == len(theirs):
        single = [(1, 1) in (s[1:], t[1:]) for s, t in zip(student, teacher)]
        ours = [t if one else s for s, t, one in zip(ours, theirs, single)]
    return ours, theirs


def better_cut(student: Sequence[int], teacher: Sequence[int]) -> Optional[Levels]:
    """The levels to compare instead of all in their order, if more of those have equal strides.

    Stages of a dilated backbone, or single maps, have no better partners: None.

    Args:
        student: Octaves of its levels.
        teacher: Likewise; if their numbers differ, nothing is equal as it is.
    """
    levels = match_levels(student, teacher)
    same_number = len(student) == len(teacher)
    equal = sum(s == t for s, t in zip(student, teacher)) if same_number else 0
    return levels if levels is not None and levels[0].stop - levels[0].start > equal else None


def indexed(path: str, part: slice, number: int) -> str:
    """A module path for some of the ``number`` maps that one call of the module yields."""
    start, stop = part.start, part.stop
    module, colon, argument = path.partition(':input')
    if stop - start == number:
        return path
    if stop - start == 1:
        index = '-1' if stop == number else start
    else:
        index = f'{start or ""}:{stop if stop < number else ""}'
    return f'{module}[{index}]{colon}{argument}'


def cut_to(paths: Sequence[str], levels: Levels, numbers: Sequence[int]) -> Tuple[str, str]:
    """The paths of student and teacher for some levels of theirs; see :func:`indexed`."""
    student, teacher = map(indexed, paths, levels, numbers)
    return student, teacher
