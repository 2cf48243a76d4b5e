"""When distillation starts and ends, and how its weight changes."""

import math
from typing import Any, Dict, NamedTuple, Optional, Set

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmdiffkd.engine.hooks.model import distiller_of, optim_wrappers_of
from mmdiffkd.errors import ConfigError, suggest
from mmdiffkd.models import DistillPair
from mmdiffkd.models.hosts import check_keys
from mmdiffkd.registry import HOOKS

_CURVES = dict(linear=lambda x: x, cosine=lambda x: (1 - math.cos(math.pi * x)) / 2)
_NAME = 'DistillationScheduleHook'


class Ramp(NamedTuple):
    """A factor that goes to or from 1 within ``length`` epochs or iterations."""

    length: float
    factor: float
    curve: str

    def at(self, distance: float) -> float:
        """The value at this distance in time from the end with ``factor``."""
        progress = min(max(distance / self.length, 0.0), 1.0)
        return self.factor + (1 - self.factor) * _CURVES[self.curve](progress)


class PairSchedule(NamedTuple):
    """The schedule of one pair; see :class:`DistillationScheduleHook` for its fields."""

    begin: float
    end: Optional[float]
    warmup: Optional[Ramp]
    decay: Optional[Ramp]

    def weight(self, now: float, training_length: float) -> Optional[float]:
        """Factor of the pair's loss, None if it is not distilled; both times in the same unit."""
        end = training_length if self.end is None else self.end
        if now < self.begin or self.end is not None and now >= end:
            return None
        warmup = 1.0 if self.warmup is None else self.warmup.at(now - self.begin)
        decay = 1.0 if self.decay is None else self.decay.at(end - now)
        return warmup * decay


@HOOKS.register_module()
class DistillationScheduleHook(Hook):
    """Starts and ends distillation, and changes its weight during training.

    The weight is a factor of a pair's ``loss_kd_<pair>``, on top of the ``loss_weight`` in its
    config; it is logged as ``kd_weight_<pair>``. The heads' own losses keep their weight while the
    pair is distilled. The heads of a pair that is not distilled do not run, its parameters do not
    change, its ``loss_kd_<pair>`` is 0, and its other entries leave the log. Without any pair to
    distil the teacher does not run either.

    Args:
        begin: First epoch (or iteration) with distillation, counted from 0.
        end: First epoch (or iteration) without it again; None is the end of the training.
        warmup: ``dict(length, start_factor=0.0, curve='linear')``: growth from ``begin`` on;
            ``curve`` may be ``'cosine'``.
        decay: ``dict(length, end_factor=0.0, curve='linear')``: decrease before ``end``.
        by_epoch: Whether times are in epochs, which may have fractions, or in iterations.
        pairs: Pair's name to its own ``begin``, ``end``, ``warmup`` and ``decay``; each replaces
            the one above.

    Raises:
        ConfigError: If a setting cannot be used; for what depends on the run, when it starts.
    """

    KEYS = ('begin', 'end', 'warmup', 'decay')

    def __init__(
        self,
        begin: float = 0,
        end: Optional[float] = None,
        warmup: Optional[Dict] = None,
        decay: Optional[Dict] = None,
        by_epoch: bool = True,
        pairs: Optional[Dict[str, Dict]] = None,
    ) -> None:
        self.by_epoch = by_epoch
        common = dict(begin=begin, end=end, warmup=warmup, decay=decay)
        self._default = _read_schedule(common, by_epoch, _NAME)
        self._own: Dict[str, PairSchedule] = {}
        for name, cfg in (pairs or {}).items():
            where = f'{_NAME}.pairs.{name}'
            check_keys(cfg, self.KEYS, (), where)
            self._own[name] = _read_schedule({**common, **cfg}, by_epoch, where)
        self._pairs: Dict[str, DistillPair] = {}
        # Pairs that were distilled since the optimizer's last step.
        self._distilled: Set[str] = set()
        self._step_hooks = []

    def before_train(self, runner: Runner) -> None:
        """Check the settings against the run."""
        self._pairs = dict(distiller_of(runner, self).pairs.items())
        for name in self._own:
            if name not in self._pairs:
                hint = f'{suggest(name, self._pairs)} (it has {", ".join(self._pairs)})'
                raise ConfigError(f'{_NAME}.pairs: the model has no pair {name!r}{hint}')
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ConfigError(
                f'{_NAME}.by_epoch must be False with IterBasedTrainLoop, and times in iterations'
            )
        # DDP gives zeros to parameters without a gradient, and weight decay would change those.
        self._step_hooks = [
            wrapper.optimizer.register_step_pre_hook(self._drop_gradients)
            for wrapper in optim_wrappers_of(runner)
        ]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set what holds for this iteration."""
        now, length = runner.iter, runner.max_iters
        if self.by_epoch:
            length = runner.max_epochs
            # runner.iter is of no use here if earlier epochs had another number of batches.
            now = runner.epoch + batch_idx / len(runner.train_dataloader)
        for name, pair in self._pairs.items():
            weight = self._own.get(name, self._default).weight(now, length)
            active = weight is not None
            if active != pair.active:
                unit = 'epochs' if self.by_epoch else 'iterations'
                change = 'distilled' if active else 'not distilled'
                runner.logger.info(f'pairs.{name}: {change} from here on, {now:g} {unit} done')
                self._forget(runner, name)
            pair.active, pair.kd_weight = active, weight or 0.0
            runner.message_hub.update_scalar(f'train/kd_weight_{name}', pair.kd_weight)
            if active:
                self._distilled.add(name)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Note whether the optimizers have made their step."""
        if all(wrapper.should_update() for wrapper in optim_wrappers_of(runner)):
            self._distilled.clear()

    def after_train(self, runner: Runner) -> None:
        """Remove the hooks of the optimizers."""
        for hook in self._step_hooks:
            hook.remove()

    def _drop_gradients(self, *_: Any) -> None:
        for name, pair in self._pairs.items():
            if name not in self._distilled:
                for parameter in pair.parameters():
                    parameter.grad = None

    def _forget(self, runner: Runner, name: str) -> None:
        """Take a pair's entries out of the log, which repeats values that are not updated."""
        scalars = runner.message_hub.log_scalars
        for key in list(scalars):
            # Another pair's name may end in this one's, as 'my_fpn' does in 'fpn'.
            owners = [pair for pair in self._pairs if key.endswith(f'_{pair}')]
            if key.startswith('train/') and owners and max(owners, key=len) == name:
                scalars.pop(key)


def _read_schedule(cfg: Dict, by_epoch: bool, where: str) -> PairSchedule:
    begin, end = cfg['begin'], cfg['end']
    warmup = _read_ramp(cfg['warmup'], 'start_factor', by_epoch, f'{where}.warmup')
    decay = _read_ramp(cfg['decay'], 'end_factor', by_epoch, f'{where}.decay')
    _check_number(begin, f'{where}.begin', whole=not by_epoch)
    if end is not None:
        _check_number(end, f'{where}.end', whole=not by_epoch)
        needed = sum(ramp.length for ramp in (warmup, decay) if ramp is not None)
        if end <= begin or needed > end - begin:
            raise ConfigError(
                f'{where}.end must be later than begin={begin} and leave room for warmup and '
                f'decay, got {end}'
            )
    return PairSchedule(begin, end, warmup, decay)


def _read_ramp(cfg: Optional[Dict], factor_key: str, by_epoch: bool, where: str) -> Optional[Ramp]:
    if cfg is None:
        return None
    check_keys(cfg, ('length', factor_key, 'curve'), ('length',), where)
    ramp = Ramp(cfg['length'], cfg.get(factor_key, 0.0), cfg.get('curve', 'linear'))
    _check_number(ramp.length, f'{where}.length', whole=not by_epoch)
    _check_number(ramp.factor, f'{where}.{factor_key}')
    if ramp.length == 0:
        raise ConfigError(f'{where}.length must be above 0, got 0; None leaves the ramp out')
    if ramp.curve not in list(_CURVES):
        raise ConfigError(f"{where}.curve must be 'linear' or 'cosine', got {ramp.curve!r}")
    return ramp


def _check_number(value: Any, where: str, whole: bool = False) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
    if not number or whole and value != int(value):
        kind = 'whole number of iterations' if whole else 'number'
        raise ConfigError(f'{where} must be a {kind} from 0, got {value!r}')
