"""Levels of feature pyramids: which have the same stride, and how paths select them."""

import difflib
import math
from typing import List, Optional, Sequence, Tuple

MapShape = Tuple[int, int, int]
"""Channels, height and width; a vector's height and width are 1."""

Levels = Tuple[slice, slice]
"""The levels of the student and of the teacher that belong together."""


def octaves(maps: Sequence[MapShape], side: int) -> List[int]:
    """Rounded base-2 logarithms of the strides of maps of an image ``side`` pixels high."""
    return [round(math.log2(side / height)) for _, height, _ in maps]


def match_levels(student: Sequence[Optional[int]], teacher: Sequence[int]) -> Optional[Levels]:
    """The longest run of levels whose octaves agree, or None; an octave of None never agrees."""
    matcher = difflib.SequenceMatcher(None, student, teacher)
    match = matcher.find_longest_match(0, len(student), 0, len(teacher))
    if match.size == 0:
        return None
    return slice(match.a, match.a + match.size), slice(match.b, match.b + match.size)


def octaves_of_both(
    student: Sequence[MapShape], teacher: Sequence[MapShape], side: int
) -> Tuple[List[int], List[int]]:
    """The :func:`octaves` of two models; where one has a vector, the student's is the teacher's.

    A vector is compared with the mean of a map, whatever the map's stride.
    """
    ours, theirs = octaves(student, side), octaves(teacher, side)
    if len(ours) == len(theirs):
        single = [(1, 1) in (s[1:], t[1:]) for s, t in zip(student, teacher)]
        ours = [t if one else s for s, t, one in zip(ours, theirs, single)]
    return ours, theirs


def better_cut(student: Sequence[int], teacher: Sequence[int]) -> Optional[Levels]:
    """The matching levels if they are more than those that match in their order, else None."""
    levels = match_levels(student, teacher)
    same_number = len(student) == len(teacher)
    equal = sum(s == t for s, t in zip(student, teacher)) if same_number else 0
    return levels if levels is not None and levels[0].stop - levels[0].start > equal else None


def indexed(path: str, part: slice, number: int) -> str:
    """The module path that selects some of the ``number`` maps which one call yields."""
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
    """The paths of student and teacher that select these levels, see :func:`indexed`."""
    student, teacher = map(indexed, paths, levels, numbers)
    return student, teacher
