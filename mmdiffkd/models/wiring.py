"""Which features of student and teacher go to which pair."""

import logging
from contextlib import suppress
from typing import Any, Dict, Iterable, List, Sequence, Set, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmdiffkd.capture import FeaturePath
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.dry_run import ImageShape, blank_features, first_accepted
from mmdiffkd.models.hosts import check_keys
from mmdiffkd.models.inference import Features
from mmdiffkd.models.levels import better_cut, cut_to, octaves_of_both
from mmdiffkd.models.pair import DistillPair
from mmdiffkd.models.shapes import TokenLayout, layouts_of, maps_of, strides_of
from mmdiffkd.models.teacher_inputs import input_replacements

# Of images to try besides the first: few models fail at all of them.
_OTHER_SIDES = (256, 448, 96)


class Wiring:
    """The paths that pairs name: what some of them need, and what they get.

    Features of the student are held by path; those of the teacher by pair, because pairs that feed
    it differently get different ones from one path.

    Args:
        pairs: Name to the pair's config.
        teacher: The teacher's model.

    Attributes:
        names: Of all pairs.
        fed_names: Of those whose teacher module runs on inputs of the student.

    Raises:
        ConfigError: If the ``teacher_inputs`` of a pair are wrong.
    """

    def __init__(self, pairs: Dict[str, Dict], teacher: nn.Module) -> None:
        self.names = list(pairs)
        self._student = {name: cfg['student'] for name, cfg in pairs.items()}
        self._teacher = {name: cfg['teacher'] for name, cfg in pairs.items()}
        self._replacements = {
            name: input_replacements(name, cfg.get('teacher_inputs'), teacher)
            for name, cfg in pairs.items()
        }
        self._layouts: Dict[Tuple[str, str], List[TokenLayout]] = {}
        self._warned: Set[str] = set()
        self.fed_names = [name for name, given in self._replacements.items() if given]

    def paths(self, name: str) -> Tuple[str, str]:
        """The module paths of student and teacher that a pair compares."""
        return self._student[name], self._teacher[name]

    def groups(self, names: Iterable[str]) -> List[List[str]]:
        """The pairs that share a forward of the teacher, because they feed it alike.

        With other inputs for one module, what a host does with that module's output may fail, so a
        later module is fed in a forward of its own. Pairs that feed nothing are with the first.
        """
        groups: Dict[Any, List[str]] = {}
        names = list(names)
        for name in filter(self._replacements.get, names):
            groups.setdefault(frozenset(self._replacements[name].items()), []).append(name)
        plain = [name for name in names if not self._replacements[name]]
        first, *others = groups.values() or [[]]
        return [[*first, *plain], *others]

    def student_paths(self, names: Iterable[str]) -> List[str]:
        """What to capture of the student for some pairs."""
        return [
            path
            for name in names
            for path in (self._student[name], *self._replacements[name].values())
        ]

    def teacher_paths(self, names: Iterable[str]) -> List[str]:
        """What to capture of the teacher for some pairs."""
        return [self._teacher[name] for name in names]

    def fed(self, group: Sequence[str], features: Features) -> Dict[FeaturePath, List[Tensor]]:
        """What the teacher's modules get of the student's inputs, for one of :meth:`groups`."""
        replacements = self._replacements[group[0]] if group else {}
        return {path: features[text] for path, text in replacements.items()}

    def fed_counts(self, student_features: Features) -> Dict[str, int]:
        """How many tensors the teacher's modules will yield that run on inputs of the student.

        As many as the student's: behind replaced inputs hosts may fail before all are there,
        having lost track of whose proposals these are.
        """
        return {
            self._teacher[name]: len(student_features[self._student[name]])
            for name in self.fed_names
        }

    def has_entries(self, name: str, student_features: Features) -> bool:
        """Whether there is anything to compare in this step.

        A picture without an object may have no entry, or the host may leave out what would run on
        none; its loss is 0 there, and so is the pair's.
        """
        for path in self.student_paths([name]):
            if not student_features[path]:
                self._warn(
                    f'pairs.{name}: student path {path!r} did not run in this step, so the pair is '
                    f'0; it teaches nothing if that module never runs in training'
                )
                return False
        return any(feature.numel() for feature in student_features[self._student[name]])

    def maps(
        self, name: str, student_features: Features, teacher_features: Features, inputs: Tensor
    ) -> Tuple[List[Tensor], List[Tensor]]:
        """A pair's captured features of student and teacher as maps, checked to correspond."""
        size = tuple(inputs.shape[-2:])
        sides = student_features[self._student[name]], teacher_features[name]
        student_maps, teacher_maps = (
            maps_of(features, size, self._layouts.get((role, name), ()))
            for role, features in zip(('student', 'teacher'), sides)
        )
        if name in self.fed_names:
            for mine, other in zip(student_maps, teacher_maps):
                if len(mine) != len(other):
                    raise ConfigError(
                        f'pairs.{name}: features of {len(mine)} and {len(other)} entries; '
                        f"teacher_inputs must make the teacher's module run on what the student's "
                        f'runs on'
                    )
            return student_maps, teacher_maps
        for path, maps in zip(self.paths(name), (student_maps, teacher_maps)):
            for feature in maps:
                if len(feature) != len(inputs):
                    raise ConfigError(
                        f'pairs.{name}: a feature has {len(feature)} entries for {len(inputs)} '
                        f'images, that of {path!r}; modules that run on proposals, queries or a '
                        f'part of the images see other ones in student and teacher, so say with '
                        f"teacher_inputs which inputs the teacher's get from the student's, or "
                        f'choose another module'
                    )
        return student_maps, teacher_maps

    def find_layouts(
        self, role: str, model: nn.Module, shape: ImageShape, features: Features
    ) -> None:
        """Find out how tokens lie in an image; from then on they have to lie like this.

        Args:
            role: ``'student'`` or ``'teacher'``.
            model: That model.
            shape: Channels, height and width of an image.
            features: Pair to the model's features of that image.

        Raises:
            ConfigError: If tokens are no map of the image's patches.
        """
        path_of = self._student if role == 'student' else self._teacher
        tokens = {name: path_of[name] for name, f in features.items() if 3 in [x.ndim for x in f]}
        for name, path in tokens.items():
            if name in self.fed_names:
                raise ConfigError(
                    f'pairs.{name}: {role} path {path!r} yields tokens of what teacher_inputs '
                    f'gives, which are no map of patches; choose another module'
                )
        if not tokens:
            return
        sizes = [({path: features[name] for name, path in tokens.items()}, shape[1:])]

        def see(shape: ImageShape) -> None:
            features, _ = blank_features(model, role, tokens.values(), shape)
            sizes.append((features, shape[1:]))

        # A model may take images of one size only.
        with suppress(ConfigError):
            others = [(shape[0], side, side) for side in _OTHER_SIDES]
            first_accepted([other for other in others if other != shape], see)
        for name, path in tokens.items():
            seen = [(of_path[path], size) for of_path, size in sizes]
            try:
                self._layouts[role, name] = layouts_of(seen, strides_of(model))
            except ValueError as error:
                raise ConfigError(f'pairs.{name}: {role} path {path!r}: {error}') from error

    def check_levels(
        self, name: str, maps: Sequence[Sequence[Tensor]], side: int, calls: Sequence[int]
    ) -> None:
        """Refuse levels that belong to others, by their strides, or as many as they are.

        Args:
            name: The pair's.
            maps: Those of student and teacher.
            side: Of the image, in pixels.
            calls: How often the modules of student and teacher ran for it.

        Raises:
            ConfigError: If the numbers of maps differ, or other levels have equal strides.
        """
        paths, numbers = self.paths(name), [len(part) for part in maps]
        shapes = ([tuple(feature.shape[1:]) for feature in part] for part in maps)
        octaves = octaves_of_both(*shapes, side)
        levels = None if name in self.fed_names else better_cut(*octaves)
        cure = ''
        if levels is not None and set(calls) == {1}:
            cure = '; compare {!r} with {!r}'.format(*cut_to(paths, levels, numbers))
        elif levels is not None:
            cure = (
                '; levels of a module that runs once for each cannot be left out, so compare '
                "modules that yield all of them, as 'neck' does"
            )
        if numbers[0] != numbers[1]:
            raise ConfigError(
                f'pairs.{name}: student path {paths[0]!r} yields {numbers[0]} maps, teacher path '
                f'{paths[1]!r} {numbers[1]}; they are matched one to one{cure}'
            )
        if octaves[0] == octaves[1] or name in self.fed_names:
            return
        strides = [', '.join(str(2**octave) for octave in part) for part in octaves]
        differ = (
            f'strides {strides[0]} of student {paths[0]!r} and {strides[1]} of teacher '
            f'{paths[1]!r} differ'
        )
        if cure:
            raise ConfigError(f'pairs.{name}: {differ}{cure}')
        self._warn(f"pairs.{name}: {differ}; the student's maps are resized")

    def check_gradient(self, name: str, maps: Sequence[Tensor]) -> None:
        """Raise if nothing can be learned through a pair's student maps, warn of single ones."""
        if not torch.is_grad_enabled():
            return
        frozen = [str(level) for level, feature in enumerate(maps) if not feature.requires_grad]
        if len(frozen) == len(maps):
            raise RuntimeError(
                f'pairs.{name}: no gradient flows into student path {self._student[name]!r}, the '
                f'student would learn nothing from this pair. Is the module frozen '
                f'(frozen_stages), or inside activation checkpointing (with_cp)?'
            )
        if frozen:
            self._warn(
                f'pairs.{name}: no gradient flows into level {", ".join(frozen)} of student path '
                f'{self._student[name]!r}, the student learns nothing there. If it is frozen '
                f"(frozen_stages), name the other levels, as in '{self._student[name]}[1:]'",
            )

    def _warn(self, text: str) -> None:
        """Say something once."""
        if text not in self._warned:
            self._warned.add(text)
            print_log(text, 'current', logging.WARNING)


def check_pairs(pairs: Any) -> None:
    """Raise :class:`ConfigError` unless the names and keys of all pairs can be used."""
    if not isinstance(pairs, dict) or not pairs:
        raise ConfigError(f'pairs must be a dict with at least one pair, got {pairs!r}')
    for name, cfg in pairs.items():
        # mmengine adds up every logged key that contains "loss", diagnostics included.
        if not str(name).isidentifier() or 'loss' in name:
            raise ConfigError(
                f'pairs: {name!r} must be an identifier without "loss" in it, because it becomes '
                f'part of the names in the log'
            )
        if hasattr(nn.ModuleDict(), name):
            raise ConfigError(f'pairs: {name!r} cannot name a pair, torch uses it itself')
        check_keys(cfg, DistillPair.KEYS, ('student', 'teacher', 'loss'), f'pairs.{name}')


def check_student(student: nn.Module, pairs: Iterable[str]) -> None:
    """Raise :class:`ConfigError` if a student has itself what a distiller or its pairs go by.

    Args:
        student: The built model; it may be a distiller, too.
        pairs: The names of the pairs.
    """
    inner = {module.name for module in student.modules() if isinstance(module, DistillPair)}
    for name in pairs:
        if name in inner:
            raise ConfigError(
                f'pairs: the student is a distiller that has a pair {name!r}, too; give one of the '
                f'two another name, as losses and weights go by it'
            )
    for name in ('student', 'teacher'):
        if not inner and hasattr(student, name):
            raise ConfigError(
                f'student: {type(student).__name__} has a {name} of its own, which hooks would '
                f"take the distiller's for; distil a model without one, such as the detector of a "
                f'semi-supervised one'
            )
