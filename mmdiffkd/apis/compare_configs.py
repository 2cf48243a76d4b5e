"""The configs of the trainings of a comparison, which differ in nothing but the method."""

import argparse
import copy
import hashlib
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from mmengine.config import Config

from mmdiffkd.apis import launch
from mmdiffkd.apis.comparison import ALONE
from mmdiffkd.apis.runs import Run, config_text
from mmdiffkd.apis.train import apply_train_arguments
from mmdiffkd.autopair.make_config import clipping_of, locate, make_config, teacher_weights
from mmdiffkd.command_line import METHODS
from mmdiffkd.datasets.held_out import hold_out
from mmdiffkd.errors import CheckpointError, ConfigError, suggest
from mmdiffkd.models.configs import load_config

_VALIDATION = ('val_dataloader', 'val_evaluator', 'val_cfg')
_NO_NAMES = ('teacher', 'tuning', 'smoke')


class Configs:
    """The configs of a comparison.

    Args:
        student: Config of the student, a path or a ``library::name``.
        teacher: Config of the teacher, likewise.
        checkpoint: Weights of the teacher, as of :func:`mmdiffkd.apis.distill`.
        methods_file: Config with a dict ``methods`` of pairs.
        args: Flags of ``tools/train.py``.
        folder: Work directory of the comparison.
        processes: Number of processes of a training, see :class:`Run`.
    """

    def __init__(
        self,
        student: str,
        teacher: str,
        checkpoint: Optional[str],
        methods_file: Optional[str],
        args: argparse.Namespace,
        folder: Path,
        processes: int,
    ) -> None:
        self.student, self.teacher, self.args = student, teacher, args
        self.folder, self.processes = folder, processes
        self.checkpoint = teacher_weights(teacher, checkpoint, args.smoke)
        self.base = load_config(student, 'student')
        load_config(teacher, 'teacher')
        launch.import_host(self.base)
        keys = () if args.smoke else _VALIDATION
        launch.check_complete(self.base, (*launch.TRAINING_KEYS, *keys))
        if args.no_validate and not args.smoke:
            raise ConfigError('--no-validate: a comparison needs the metrics of the validation')
        self.own, self.imports = _read_methods(methods_file)
        self._teacher_note = self._describe_teacher()

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
        args = copy.copy(self.args)
        if method == ALONE:
            # Its gradients are clipped like those of the others.
            text = f'_base_ = {locate(self.student)!r}\n{clipping_of(self.base, method)}'
            args.check_teacher = False
            args.cfg_options = _options_of_the_student(args.cfg_options or {})
        else:
            path = self.folder / method / 'config' / f'{method}.py'
            own = method in self.own
            named = dict(pairs=self.own[method]) if own else dict(method=method)
            text = make_config(
                path, self.student, self.teacher, self.checkpoint, smoke=args.smoke, **named
            )
        cfg = Config.fromstring(text, '.py')
        launch.apply_run_arguments(cfg, args)
        apply_train_arguments(cfg, args)
        cfg.pop('work_dir', None)  # so that a folder can be moved
        if method in self.own and self.imports:
            before = (cfg.get('custom_imports') or {}).get('imports', [])
            before = [before] if isinstance(before, str) else list(before)
            cfg.custom_imports = dict(imports=before + self.imports)
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
            if not self.args.smoke:
                hold_out(cfg)
        notes = [f'processes: {self.processes}'] if self.processes else []
        notes += [] if method == ALONE else [self._teacher_note]
        return Run(title, folder, config_text(cfg, *notes), 'train', self._flags(), self.processes)

    def teacher_test(self) -> Optional[Run]:
        """The test of the teacher on the validation data, or None if its weights are random."""
        if self.checkpoint == 'random' or self.args.smoke:
            return None
        # Whatever methods are compared, as the config of a finished run may not change.
        cfg = self.of_method(METHODS[0])
        cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
        cfg.test_cfg = dict(type='TestLoop')
        text = config_text(cfg, self._teacher_note)
        return Run('teacher', self.folder / 'teacher', text, 'test', [*self._flags(), '--teacher'])

    def _flags(self) -> List[str]:
        names = ('smoke', 'trust_checkpoint', 'verbose')
        return [f'--{name.replace("_", "-")}' for name in names if getattr(self.args, name)]

    def _describe_teacher(self) -> str:
        """The teacher's weights in words that change with them."""
        if '://' in self.checkpoint or self.checkpoint in ('random', 'zoo'):
            return f'teacher: {self.checkpoint}'
        path = Path(self.checkpoint)
        if not path.is_file():
            raise CheckpointError(f'--teacher-checkpoint: no file {self.checkpoint!r}')
        return f'teacher: sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}'


def _read_methods(path: Optional[str]) -> Any:
    """The user's methods by their names, and the modules to import for them."""
    if path is None:
        return {}, []
    # Python files of losses and heads lie beside it; the trainings get this path as well.
    sys.path.insert(0, str(Path(path).resolve().parent))
    cfg = load_config(path, '--methods-file')
    methods: Dict[str, Dict] = cfg.get('methods')
    if not isinstance(methods, dict) or not all(isinstance(it, dict) for it in methods.values()):
        raise ConfigError(f'--methods-file: {path!r} has no dict methods = dict(name=pairs, ...)')
    taken = {ALONE, *METHODS, *_NO_NAMES}
    for name in methods:
        if name in taken or not name.replace('-', '_').isidentifier():
            raise ConfigError(f'--methods-file: {name!r} cannot name a method of your own')
    imports = (cfg.get('custom_imports') or {}).get('imports', [])
    imports = [imports] if isinstance(imports, str) else list(imports)
    return Config(dict(methods=methods)).to_dict()['methods'], imports


def _options_of_the_student(options: Dict[str, Any]) -> Dict[str, Any]:
    """The options for a distillation config that concern the student alone, for its own config."""
    others = ('model.teacher.', 'model.pairs.')
    return {
        key.replace('model.student.', 'model.', 1): value
        for key, value in options.items()
        if not key.startswith(others)
    }
