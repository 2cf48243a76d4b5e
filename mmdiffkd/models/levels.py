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
    """The longest run of equal octaves, or None if as many agree in their order as it is."""
    matcher = difflib.SequenceMatcher(None, student, teacher)
    match = matcher.find_longest_match(0, len(student), 0, len(teacher))
    same_number = len(student) == len(teacher)
    if match.size <= (sum(s == t for s, t in zip(student, teacher)) if same_number else 0):
        return None
    return slice(match.a, match.a + match.size), slice(match.b, match.b + match.size)


def cut_to(paths: Sequence[str], levels: Levels, numbers: Sequence[int]) -> Tuple[str, str]:
    """The paths of student and teacher that select these levels.

    ``paths`` are those of the two modules, and ``numbers`` how many maps a call of each yields.
    """
    cut = []
    for path, part, number in zip(paths, levels, numbers):
        module, colon, argument = path.partition(':input')
        stop = part.stop if part.stop < number else ''
        index = f'[{part.start or ""}:{stop}]'
        if part.stop - part.start == 1:
            index = f'[{part.start}]' if stop else '[-1]'
        whole = part.stop - part.start == number
        cut.append(path if whole else f'{module}{index}{colon}{argument}')
    return tuple(cut)
