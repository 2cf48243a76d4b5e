"""The configs of the trainings of a comparison, which differ in nothing but the method."""

import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from mmengine.config import Config

from mmdiffkd.autopair.make_config import clipping_of, locate, make_config
from mmdiffkd.command_line import METHODS
from mmdiffkd.comparison.report import ALONE
from mmdiffkd.comparison.run import Run, config_text
from mmdiffkd.datasets.held_out import hold_out
from mmdiffkd.errors import CheckpointError, ConfigError, UserError, suggest
from mmdiffkd.models.configs import load_config


@dataclass
class Configs:
    """The configs of a comparison.

    Attributes:
        student: Config of the student, a path or a ``library::name``.
        teacher: Config of the teacher, likewise.
        checkpoint: Weights of the teacher: a path, a URL, ``'zoo'`` or ``'random'``.
        methods_file: Config with the user's methods, or None.
        folder: Work directory of the comparison.
        apply_flags: Writes the flags of ``train.py`` into a config. The second argument says
            whether it is that of the student alone.
        flags: Flags for the process of a run, such as ``--verbose``.
        processes: Number of processes of a training, see :class:`Run`.
    """

    student: str
    teacher: str
    checkpoint: str
    methods_file: Optional[str]
    folder: Path
    apply_flags: Callable[[Config, bool], None]
    flags: List[str]
    processes: int

    def __post_init__(self) -> None:
        self.smoke = '--smoke' in self.flags
        self.base = load_config(self.student, 'student')
        self.own, self.imports = _read_methods(self.methods_file)
        self.teacher_note = f'teacher: {self.checkpoint}'
        if '://' not in self.checkpoint and self.checkpoint not in ('random', 'zoo'):
            path = Path(self.checkpoint)
            if not path.is_file():
                raise CheckpointError(f'--teacher-checkpoint: no file {self.checkpoint!r}')
            # Not its path, so that a folder can be moved.
            self.teacher_note = f'teacher: sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}'

    def check_names(self, methods: Sequence[str]) -> None:
        """Raise :class:`ConfigError` unless all methods are known, and each is named once."""
        known = [ALONE, *METHODS, *self.own]
        for name in methods:
            if name not in known:
                hint = suggest(name, known) or f'; known are {", ".join(known)}'
                raise ConfigError(f'--methods: there is no method {name!r}{hint}')
        if not methods or len(set(methods)) < len(methods):
            raise ConfigError(f'--methods: {",".join(methods)!r} must name each method once')

    def of_method(self, method: str) -> Config:
        """The complete config of a method, without seed and work directory."""
        if method == ALONE:
            # Its gradients are clipped like those of the others.
            text = f'_base_ = {locate(self.student)!r}\n{clipping_of(self.base, method)}'
        else:
            path = self.folder / method / 'config' / f'{method}.py'
            own = method in self.own
            named = dict(pairs=self.own[method]) if own else dict(method=method)
            text = make_config(
                path, self.student, self.teacher, self.checkpoint, smoke=self.smoke, **named
            )
        cfg = Config.fromstring(text, '.py')
        # The hooks that draw and measure would take time that is not the method's.
        cfg.custom_hooks = self.base.get('custom_hooks', [])
        self.apply_flags(cfg, method == ALONE)
        if method in self.own and self.imports:
            cfg.custom_imports = dict(imports=_imports_of(cfg) + self.imports)
        return cfg

    def training(
        self, method: str, cfg: Config, seed: int, factor: float = 1.0, tuning: bool = False
    ) -> Run:
        """A training of a method whose pairs' weights are multiplied by a factor.

        With ``tuning`` a fifth of the training data is held out for the validation, except in a
        smoke run, whose data are too few.
        """
        cfg = Config(cfg.to_dict())
        cfg.randomness = {**(cfg.get('randomness') or {}), 'seed': seed}
        for pair in cfg.model.pairs.values() if factor != 1 else ():
            pair['weight'] = factor * pair.get('weight', 1.0)
        title, folder = f'{method}, seed {seed}', self.folder / method / f'seed-{seed}'
        if tuning:
            title = f'{method}, weight x {factor:g}, seed {seed}'
            folder = self.folder / 'tuning' / method / f'weight-{factor:g}' / f'seed-{seed}'
            if not self.smoke:
                hold_out(cfg)
        notes = [f'processes: {self.processes}'] if self.processes else []
        notes += [] if method == ALONE else [self.teacher_note]
        return Run(title, folder, config_text(cfg, *notes), 'train', self.flags, self.processes)

    def teacher_test(self) -> Optional[Run]:
        """The test of the teacher on the validation data, or None if its weights are random."""
        if self.checkpoint == 'random' or self.smoke:
            return None
        # Whatever methods are compared, as the config of a finished run may not change.
        try:
            cfg = self.of_method(METHODS[0])
        except UserError:
            cfg = self.of_method(next(iter(self.own), METHODS[0]))
        cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
        cfg.test_cfg = dict(type='TestLoop')
        text = config_text(cfg, self.teacher_note)
        return Run('teacher', self.folder / 'teacher', text, 'test', [*self.flags, '--teacher'])


def _read_methods(path: Optional[str]) -> Tuple[Dict[str, Dict], List[str]]:
    """The user's methods by their names, and the modules to import for them."""
    if path is None:
        return {}, []
    # Python files of losses and heads lie beside it; the trainings get this path as well.
    sys.path.insert(0, str(Path(path).resolve().parent))
    cfg = load_config(path, '--methods-file')
    methods = cfg.get('methods')
    if not isinstance(methods, dict) or not all(isinstance(it, dict) for it in methods.values()):
        raise ConfigError(f'--methods-file: {path!r} has no dict methods = dict(name=pairs, ...)')
    for name in methods:
        # Each names a folder.
        taken = name in (ALONE, *METHODS, 'teacher', 'tuning', 'smoke')
        if taken or not re.fullmatch(r'[\w-]+', name):
            raise ConfigError(f'--methods-file: {name!r} cannot name a method of your own')
    return Config(dict(methods=methods)).to_dict()['methods'], _imports_of(cfg)


def _imports_of(cfg: Config) -> List[str]:
    imports = (cfg.get('custom_imports') or {}).get('imports', [])
    return [imports] if isinstance(imports, str) else list(imports)
