"""Which features of student and teacher go to which pair."""

import logging
from typing import Any, Dict, Iterable, List, Sequence, Set, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from .build import ConfigError, check_keys
from .capture import FeaturePath
from .inference import Features
from .pair import DistillPair
from .shapes import maps_of
from .teacher_inputs import input_replacements


class Wiring:
    """The paths that pairs name: what some of them need, and what they get.

    Args:
        pairs: Name to the pair's config.
        teacher: The teacher's model.

    Attributes:
        names: Of all pairs.
        fed_names: Of those whose teacher module runs on inputs of the student.

    Raises:
        ConfigError: If the ``teacher_inputs`` of pairs are wrong or contradict each other.
    """

    def __init__(self, pairs: Dict[str, Dict], teacher: nn.Module) -> None:
        self.names = list(pairs)
        self._student = {name: cfg['student'] for name, cfg in pairs.items()}
        self._teacher = {name: cfg['teacher'] for name, cfg in pairs.items()}
        # Of all together, to find contradictions.
        input_replacements(pairs, teacher)
        self._replacements = {
            name: input_replacements({name: cfg}, teacher) for name, cfg in pairs.items()
        }
        self._warned: Set[str] = set()
        self.fed_names = [name for name, given in self._replacements.items() if given]

    def paths(self, name: str) -> Tuple[str, str]:
        """The module paths of student and teacher that a pair compares."""
        return self._student[name], self._teacher[name]

    def replacements(self, names: Iterable[str]) -> Dict[FeaturePath, str]:
        """The teacher's input path -> the student's that replaces it, for some pairs."""
        return {path: text for name in names for path, text in self._replacements[name].items()}

    def student_paths(self, names: Iterable[str]) -> List[str]:
        """What to capture of the student for some pairs."""
        names = list(names)
        return [*(self._student[name] for name in names), *self.replacements(names).values()]

    def teacher_paths(self, names: Iterable[str]) -> List[str]:
        """What to capture of the teacher for some pairs."""
        return [self._teacher[name] for name in names]

    def fed(
        self, names: Iterable[str], student_features: Features
    ) -> Dict[FeaturePath, List[Tensor]]:
        """What the teacher's modules get of the student's inputs, for some pairs."""
        replacements = self.replacements(names)
        return {path: student_features[text] for path, text in replacements.items()}

    def fed_counts(self, student_features: Features) -> Dict[str, int]:
        """How many tensors the teacher's modules will yield that run on inputs of the student.

        As many as the student's: behind replaced inputs hosts may fail before all are there,
        having lost track of whose proposals these are.
        """
        return {
            self._teacher[name]: len(student_features[self._student[name]])
            for name in self.fed_names
        }

    def maps(
        self, name: str, student_features: Features, teacher_features: Features, inputs: Tensor
    ) -> Tuple[List[Tensor], List[Tensor]]:
        """A pair's captured features of student and teacher as maps, checked to correspond."""
        image_size = tuple(inputs.shape[-2:])
        student_maps = maps_of(student_features[self._student[name]], image_size)
        teacher_maps = maps_of(teacher_features[self._teacher[name]], image_size)
        for feature in (*student_maps, *teacher_maps):
            if name in self.fed_names:
                if len(feature) != len(teacher_maps[0]):
                    raise ValueError(
                        f'pairs.{name}: features of {len(feature)} and {len(teacher_maps[0])} '
                        f"entries; teacher_inputs must make the teacher's module run on what the "
                        f"student's runs on"
                    )
            elif len(feature) != len(inputs):
                raise ValueError(
                    f'pairs.{name}: a feature has {len(feature)} entries for {len(inputs)} images. '
                    f'Modules that run on proposals or queries see other ones in student and '
                    f"teacher; say with teacher_inputs which inputs the teacher's get from the "
                    f"student's"
                )
        return student_maps, teacher_maps

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
        if frozen and name not in self._warned:
            self._warned.add(name)
            print_log(
                f'pairs.{name}: no gradient flows into level {", ".join(frozen)} of student path '
                f'{self._student[name]!r}, the student learns nothing there. If it is frozen '
                f"(frozen_stages), name the other levels, as in '{self._student[name]}[1:]'",
                'current',
                logging.WARNING,
            )


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
